//! What several crates' tests share.
