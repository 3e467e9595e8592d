//! Surroundings that are not as they should be.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::stage::{Shop, Stage, shown};

#[test]
fn an_environment_that_is_not_text() {
    let shop = Shop::open();
    let ended = shop.stage().run_in("plan", |command| {
        command.env("LATIN", OsStr::from_bytes(b"caf\xe9"));
    });
    assert_eq!(ended.code, 0, "{ended:#?}");
}

#[test]
fn dockers_configuration_names_a_helper_that_is_not_there() {
    let stage = Stage::new("http://127.0.0.1:9");
    stage.write("home/.docker/config.json", r#"{ "credsStore": "nowhere" }"#);
    shown!(stage.run("plan"), @r"
    exit code 2
    -- stderr
    error: cannot run the credential helper docker-credential-nowhere: No such file or directory (os error 2)
    hint: registry.user and registry.password in the configuration come before Docker's own credentials
    ");
}

#[test]
fn nobody_reads_what_is_printed() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for line in ["man", "completions bash", "--help", "config schema"] {
        let stdout = writer.try_clone().unwrap();
        let ended = Stage::bare().run_in(line, |command| {
            command.stdout(stdout);
        });
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{line}");
    }
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
