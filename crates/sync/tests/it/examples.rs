//! The examples do what they say.

#[path = "../../../sync-core/examples/delta.rs"]
mod delta;
#[path = "../../examples/folders.rs"]
mod folders;
#[path = "../../examples/stream.rs"]
mod stream;

#[test]
fn two_folders_in_one_process() {
    folders::main().unwrap();
}

#[test]
fn a_folder_over_any_stream() {
    stream::main().unwrap();
}

#[test]
fn only_the_delta() {
    delta::main().unwrap();
}
