//! What its users see: the built program, sealed off from this machine, by its exit codes and all it prints.

mod stage;

mod asking;
mod doing;
mod in_use;
mod interrupted;
mod limits;
mod looking;
mod newcomer;
mod policy;
mod refusing;
mod secrets;
mod several;
mod storage;
mod surroundings;
mod usage;
mod words;
