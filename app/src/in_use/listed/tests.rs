use super::*;

fn list(text: &str) -> Result<Vec<(String, String)>, String> {
    let used = read(text.as_bytes().to_vec(), "a list").map_err(|error| error.to_string())?;
    Ok(used.into_iter().map(|used| (used.reference, used.by)).collect())
}

fn references(text: &str) -> Vec<String> {
    list(text).unwrap().into_iter().map(|(reference, _)| reference).collect()
}

#[test]
fn a_list_is_lines_words_or_json() {
    for text in [
        "a/b:1\nc/d\n",
        "a/b:1 c/d",
        "\u{feff}a/b:1\r\n\r\n  c/d\t# both",
        "# nothing yet\n#c/x\na/b:1#no blank\nc/d",
        " [\"a/b:1\",\n \"c/d\"]",
    ] {
        assert_eq!(references(text), ["a/b:1", "c/d"], "{text:?}");
    }
    for text in ["", "\n# nobody\n", "[]"] {
        assert!(references(text).is_empty(), "{text:?}");
    }
}

#[test]
fn a_line_is_told_of_by_its_number() {
    let used = list("# one\n\na/b c/d\n").unwrap();
    let by: Vec<&str> = used.iter().map(|(_, by)| by.as_str()).collect();
    assert_eq!(by, ["a list, line 3", "a list, line 3"]);
}

#[test]
fn a_list_with_anything_else_in_it_is_refused_whole() {
    for (text, why) in [
        ("a/b\nNAMESPACE NAME", "a list, line 2: \"NAMESPACE\" cannot be read"),
        ("[\"a/b\", \"\"]", "a list: \"\" cannot be read"),
        ("[\"a/b\", 7]", "invalid type: integer `7`"),
        ("[\"a/b\"", "EOF while parsing"),
        ("{\"images\": []}", "line 1: \"{\\\"images\\\":\""),
    ] {
        let error = list(text).unwrap_err();
        assert!(
            error.starts_with("it is not a list of references: ") && error.contains(why),
            "{text:?}: {error}"
        );
    }
    assert!(read(b"a/\xff".to_vec(), "a list").is_err());
}

#[test]
fn a_url_is_shown_without_what_may_be_secret() {
    assert_eq!(shown("https://u:p@host.example:8443/a?token=t#f"), "https://host.example:8443/a");
    assert_eq!(shown("no url"), "(no URL)");
}

async fn command(line: &str) -> Result<Vec<Used>, ListedError> {
    let environment = BTreeMap::from([
        ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
        ("IMAGE".to_owned(), "a/b:1".to_owned()),
    ]);
    of_command(line, "a command", (&environment, Duration::from_secs(60))).await
}

#[tokio::test]
async fn a_command_gets_the_environment_and_no_input() {
    let used = command("cat; echo $IMAGE; echo progress >&2").await.unwrap();
    assert_eq!(used, [Used { reference: "a/b:1".to_owned(), by: "a command, line 1".to_owned() }]);
}

#[tokio::test]
async fn what_a_command_printed_before_it_failed_is_not_believed() {
    let error = command("echo a/b:1; echo no connection >&2; exit 7").await.unwrap_err();
    assert_eq!(error.to_string(), "the command failed: exit status: 7: no connection");
    let killed = command("kill -9 $$").await.unwrap_err();
    assert!(killed.to_string().contains("signal: 9"), "{killed}");
}

#[tokio::test]
async fn a_command_that_prints_without_end_is_ended() {
    let error = command("yes a/b:1").await.unwrap_err();
    assert_eq!(error.to_string(), "it is not a list of references: it is longer than 64 MiB");
}
