//! Surroundings that are not as they should be.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::stage::{Shop, Stage};

#[test]
fn an_environment_that_is_not_text() {
    let shop = Shop::open();
    let ended = shop.stage().run_in("plan", |command| {
        command.env("LATIN", OsStr::from_bytes(b"caf\xe9"));
    });
    assert_eq!(ended.code, 0, "{ended:#?}");
}

#[test]
fn nobody_reads_standard_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = Stage::bare().run_in("plan", |command| {
        command.stderr(writer);
    });
    assert_eq!(ended.code, 2, "{ended:#?}");
}
