//! `plan`, `explain` and `runs` show, and change nothing.

use clean_registry::demo::server::{Behaviour, Effect, Generation, Rule};
use clean_registry_core::name::Digest;
use hyper::Method;
use serde_json::{Value, json};

use crate::stage::{Shop, old, shown};

#[test]
fn the_plan() {
    shown!(Shop::open().stage().run("plan"), @r"
    exit code 0
    -- stdout
    Plan for [host] as of [moment]
    Policy: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs

    shop/api
      untag   2019  sha256:[short]
              [age] days old (created 2019-03-01T00:00:00Z), older than 30 days

    shop/tool
      delete  1.0  sha256:[short]
              [age] days old (created 2020-04-01T00:00:00Z), older than 30 days
      delete  (untagged)  sha256:[short]
              only sha256:[short] needed it, which goes
      delete  (untagged)  sha256:[short]
              only sha256:[short] needed it, which goes

    shop/web
      delete  sha256-[short]….sig  sha256:[short]
              about sha256:[short], which goes
      delete  1.1  sha256:[short]
              [age] days old (created 2021-01-01T00:00:00Z), older than 30 days
      delete  1.0  sha256:[short]
              [age] days old (created 2020-01-01T00:00:00Z), older than 30 days

    7 steps; 15.2 KiB might be freed.

     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     shop/api       3     2        1       0 B
     shop/tool      2     1        1   5.7 KiB
     shop/web       4     1        3   9.6 KiB
     total          9     4        5  15.2 KiB
    -- stderr
    [time] [INFO] surveyed 3 repositories with 9 tags in [n] requests
    ");
}

#[test]
fn the_plan_with_all_that_stays() {
    shown!(Shop::open().stage().run("plan --all --repo shop/api"), @r#"
    exit code 0
    -- stdout
    Plan for [host] as of [moment]
    Policy: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs

    shop/api
      untag   2019  sha256:[short]
              [age] days old (created 2019-03-01T00:00:00Z), older than 30 days
      keep    latest  sha256:[short]
              protected: latest is one of protected_tags
      keep    release-9  sha256:[short]
              protected: contains "release" of protected_patterns

    1 step; 0 B might be freed.

     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     shop/api       3     2        1       0 B
     total          3     2        1       0 B
    -- stderr
    [time] [INFO] surveyed 1 repository with 3 tags in [n] requests
    "#);
}

#[test]
fn where_a_tag_cannot_be_deleted_alone_it_stays() {
    let shop = Shop::of(Behaviour::of(Generation::V2));
    shown!(shop.stage().run("plan --all --repo shop/api"), @r#"
    exit code 0
    -- stdout
    Plan for [host] as of [moment]
    Policy: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs

    shop/api
      keep    2019  sha256:[short]
              shares sha256:[short] with what must stay (tag latest stays), and this registry cannot delete a tag alone
      keep    latest  sha256:[short]
              protected: latest is one of protected_tags
      keep    release-9  sha256:[short]
              protected: contains "release" of protected_patterns

    Nothing to remove.

     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     shop/api       3     3        0       0 B
     total          3     3        0       0 B
    -- stderr
    [time] [INFO] surveyed 1 repository with 3 tags in [n] requests
    "#);
}

#[test]
fn the_plan_for_programs() {
    let shop = Shop::open();
    let stage = shop.stage();
    let plan = stage.run("plan --all --output json --repo shop/tool").json();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        (fields(&plan), fields(&plan["steps"][0]), fields(&plan["kept"][0]), &plan["format"]),
        (
            "as_of estimate format gaps kept origin policy registry steps".to_owned(),
            "action cause digest repository tags".to_owned(),
            "digest grounds repository tag".to_owned(),
            &json!(1)
        )
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan["steps"][0]).unwrap(), @r#"
    {
      "action": "delete",
      "cause": {
        "age_days": "[age]",
        "created": "2020-04-01T00:00:00Z",
        "keep_days": 30,
        "kind": "older",
        "source": "config"
      },
      "digest": "sha256:[digest]",
      "repository": "shop/tool",
      "tags": [
        "1.0"
      ]
    }
    "#);
}

#[test]
fn with_json_standard_output_is_nothing_else() {
    let shop = Shop::open();
    let stage = shop.stage().with("DEBUG", "true");
    for line in ["plan", "explain shop/web", "runs", "run", "undo", "config explain"] {
        let ended = stage.run(&format!("{line} --output json"));
        assert!(ended.json().is_object() || ended.json().is_array(), "{line}: {ended:#?}");
    }
}

#[test]
fn why_a_tag_stays_or_goes() {
    let shop = Shop::open();
    let stage = shop.stage();
    shown!(stage.run("explain shop/web:1.0"), @r"
    exit code 0
    -- stdout
    shop/web:1.0 goes
      because  [age] days old (created 2020-01-01T00:00:00Z), older than 30 days
      digest   sha256:[digest]
      type     application/vnd.oci.image.manifest.v1+json
      created  2020-01-01T00:00:00Z, from created in the image configuration
      referrer sha256:[digest]
    -- stderr
    [time] [INFO] surveyed 1 repository with 4 tags in [n] requests
    ");
    shown!(stage.run("explain shop/web:1.2"), @r"
    exit code 0
    -- stdout
    shop/web:1.2 stays
      because  2 days old (created [moment]), kept for 30 days
      digest   sha256:[digest]
      type     application/vnd.oci.image.manifest.v1+json
      created  [moment], from created in the image configuration
    -- stderr
    [time] [INFO] surveyed 1 repository with 4 tags in [n] requests
    ");
    shown!(stage.run("explain shop/api:latest"), @r"
    exit code 0
    -- stdout
    shop/api:latest stays
      because  protected: latest is one of protected_tags
      digest   sha256:[digest]
      type     application/vnd.oci.image.manifest.v1+json
      created  2019-03-01T00:00:00Z, from created in the image configuration
      tag      2019
    -- stderr
    [time] [INFO] surveyed 1 repository with 3 tags in [n] requests
    ");
    shown!(stage.run("explain shop/tool:1.0"), @r"
    exit code 0
    -- stdout
    shop/tool:1.0 goes
      because  [age] days old (created 2020-04-01T00:00:00Z), older than 30 days
      digest   sha256:[digest]
      type     application/vnd.oci.image.index.v1+json
      created  2020-04-01T00:00:00Z, from created in the image configuration of its newest image sha256:[digest]
    -- stderr
    [time] [INFO] surveyed 1 repository with 2 tags in [n] requests
    ");
}

#[test]
fn why_everything_in_a_repository_stays_or_goes() {
    let shop = Shop::open();
    shown!(shop.stage().run("explain shop/tool"), @r"
    exit code 0
    -- stdout
    shop/tool:1.0 goes
      because  [age] days old (created 2020-04-01T00:00:00Z), older than 30 days
      digest   sha256:[digest]
      type     application/vnd.oci.image.index.v1+json
      created  2020-04-01T00:00:00Z, from created in the image configuration of its newest image sha256:[digest]
    shop/tool:undated stays
      because  age unknown: nothing says when it was created
      digest   sha256:[digest]
      type     application/vnd.oci.image.manifest.v1+json
      created  unknown: nothing says when it was created
    -- stderr
    [time] [INFO] surveyed 1 repository with 2 tags in [n] requests
    ");
}

#[test]
fn nothing_is_said_of_what_is_not_there() {
    let shop = Shop::open();
    let stage = shop.stage();
    shown!(stage.run("explain shop/web:1.9"), @r"
    exit code 2
    -- stderr
    [time] [INFO] surveyed 1 repository with 4 tags in [n] requests
    error: shop/web has no tag 1.9
    hint: did you mean 1.0 or 1.1 or 1.2?
    ");
    shown!(stage.run("explain shop/web:unlike"), @r"
    exit code 2
    -- stderr
    [time] [INFO] surveyed 1 repository with 4 tags in [n] requests
    error: shop/web has no tag unlike
    hint: `clean-registry explain shop/web` shows what it has
    ");
    shown!(stage.run("explain shop/wep"), @r"
    exit code 2
    -- stderr
    [time] [INFO] surveyed 1 repository with 0 tags in [n] requests
    error: the registry has no repository shop/wep
    hint: did you mean shop/web or shop/api?
    ");
    shown!(stage.run("explain web:1.0"), @r"
    exit code 2
    -- stderr
    [time] [INFO] surveyed 1 repository with 0 tags in [n] requests
    error: the registry has no repository web
    hint: did you mean shop/web?
    ");
    shown!(stage.run("explain unlike"), @r"
    exit code 2
    -- stderr
    [time] [INFO] surveyed 1 repository with 0 tags in [n] requests
    error: the registry has no repository unlike
    ");
    let digest = Digest::of(b"nothing");
    shown!(stage.run(&format!("explain shop/web@{digest}")), @r"
    exit code 2
    -- stderr
    [time] [INFO] surveyed 1 repository with 4 tags in [n] requests
    error: shop/web has no manifest sha256:[digest]
    hint: `clean-registry explain shop/web` shows what it has
    ");
    shown!(stage.run("explain Shop:1"), @r#"
    exit code 2
    -- stderr
    error: "Shop:1": "Shop" is not a repository name
    hint: REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST, without the registry's host
    "#);
}

#[test]
fn a_repository_that_cannot_be_listed_is_not_said_to_be_absent() {
    let shop = Shop::open();
    shop.server.faults().add(Rule::on(Method::GET, "/tags/list", Effect::Status(403, None)));
    shown!(shop.stage().run("explain shop/web:1.0"), @r"
    exit code 3
    -- stderr
    [time] [WARNING] not fully known, kept: shop/web: its tags cannot be listed: GET http://[host]/v2/shop/web/tags/list is forbidden: requested access to the resource is denied
    [time] [INFO] surveyed 1 repository with 0 tags in [n] requests
    error: what shop/web holds is not known: its tags cannot be listed: GET http://[host]/v2/shop/web/tags/list is forbidden: requested access to the resource is denied
    ");
}

#[test]
fn a_repository_without_a_tag_is_told_from_one_that_is_not_there() {
    let shop = Shop::open();
    let digest = shop.push("bare", "gone", &old("bare", "2021-01-01T00:00:00Z"));
    let (repo, tag) = ("bare".parse().unwrap(), "gone".parse().unwrap());
    shop.server.store().remove_tag(&repo, &tag).unwrap();
    shown!(shop.stage().run("explain bare"), @r"
    exit code 2
    -- stderr
    [time] [INFO] surveyed 1 repository with 0 tags in [n] requests
    error: bare has no tag
    ");
    // The storage shows what no tag leads to.
    let root = shop.server.root().to_owned();
    let stage = shop.stage().configure(|config| config["storage"] = json!({ "directory": root }));
    shown!(stage.run("explain bare"), @r"
    exit code 2
    -- stderr
    [time] [INFO] surveyed 1 repository with 0 tags in [n] requests
    error: bare has no tag
    hint: it has 1 untagged manifest: ask about one as bare@DIGEST
    ");
    assert_eq!(stage.run(&format!("explain bare@{digest}")).code, 0);
}

#[test]
fn no_runs_yet() {
    shown!(Shop::open().stage().run("runs"), @r"
    exit code 0
    -- stdout
    No run on [host] yet.
    ");
}

#[test]
fn looking_asks_and_changes_nothing() {
    let shop = Shop::open();
    let stage = shop.stage();
    let before = shop.files();
    for line in ["plan", "plan --all --out plan.json", "explain shop/web:1.0", "runs", "config check"] {
        assert_eq!(stage.run(line).code, 0, "{line}");
    }
    let methods: Vec<Method> = shop.server.log().into_iter().map(|request| request.method).collect();
    assert!(!methods.is_empty());
    let others: Vec<&Method> =
        methods.iter().filter(|method| ![Method::GET, Method::HEAD].contains(method)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(shop.files(), before);
}
