//! The life of up and down as one state machine that says what happened as events.
