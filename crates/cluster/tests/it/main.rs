//! The cluster adapters, each from outside.

#[cfg(target_os = "linux")]
mod embedded;
mod kube;
