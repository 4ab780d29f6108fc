//! Text of .stignore and a path: keep or skip, and which line decided.
