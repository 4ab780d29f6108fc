//! Walks, watches, stages and atomically applies on a real disk.
