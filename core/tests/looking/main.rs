//! Looking at a storage: what is broken, what can be mended, what takes the room. Storages are built by hand, file by file.

mod world;

mod broken;
mod mending;
mod room;
