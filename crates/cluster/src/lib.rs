//! What Towline asks of Kubernetes: the port [`Cluster`], its vocabulary, and two adapters.

#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod embedded;
pub mod error;
pub mod kube;
pub mod port;
mod variables;

pub use error::ClusterError;
pub use port::Cluster;
pub use variables::expand;
