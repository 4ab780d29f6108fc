//! Drives wire over any AsyncRead and AsyncWrite.
