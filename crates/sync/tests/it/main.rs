//! Pairs of real folders, as a program that embeds them has them.

mod examples;
mod foresight;
mod hindsight;
mod scene;
mod strangers;
mod undo_there;
