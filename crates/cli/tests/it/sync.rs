//! `towline sync` as people and programs use it: the program itself, and the agent behind real pipes.

mod bad_input;
mod hindsight;
mod running;
mod scene;
mod transfers;
mod undo_there;
