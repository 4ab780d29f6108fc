//! A live workload and a plan: the patch, and the record that undoes it.
