//! Scenarios of a development session, run against the embedded cluster and a real one.
