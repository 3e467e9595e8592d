//! What workloads use stays, and a source that cannot say what it is stops the run.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use clean_registry::demo::builder::Built;
use clean_registry_core::layout::Place;
use clean_registry_core::name::Digest;
use serde_json::{Value, json};

use crate::stage::{Ended, Shop, Stage, old, shown};

/// A stage with these sources. The images in use are known as `registry.example`.
fn stage(shop: &Shop, sources: Value) -> Stage {
    shop.stage().configure(|config| {
        config["registry"]["aliases"] = json!(["registry.example"]);
        config["in_use"] = sources;
    })
}

/// What a plan or a run removes: `repository:tag`, or the repository alone.
fn removed(ended: &Ended) -> Vec<String> {
    let steps = ended.json()["steps"].as_array().unwrap().clone();
    let is_done = |step: &&Value| step["outcome"].as_str().is_none_or(|outcome| outcome == "done");
    let mut removed: Vec<String> = Vec::new();
    for step in steps.iter().filter(is_done) {
        let repository = step["repository"].as_str().unwrap();
        let tags = step["tags"].as_array().unwrap();
        removed.extend(tags.iter().map(|tag| format!("{repository}:{}", tag.as_str().unwrap())));
        removed.extend(tags.is_empty().then(|| repository.to_owned()));
    }
    removed.retain(|name| !name.contains(".sig"));
    removed
}

#[test]
fn what_a_file_lists_stays_and_explain_says_who_uses_it() {
    let shop = Shop::open();
    let stage = stage(&shop, json!([{ "name": "production", "file": "used.txt" }]));
    stage.write("used.txt", "# what runs\n\nregistry.example/shop/web:1.0  # the old one\n");
    let before = removed(&shop.stage().run("plan --output json"));
    assert!(before.contains(&"shop/web:1.0".to_owned()), "{before:?}");
    let ended = stage.run("run --output json");
    assert_eq!(ended.code, 0, "{ended:#?}");
    let without: Vec<String> = before.into_iter().filter(|name| name != "shop/web:1.0").collect();
    assert_eq!(removed(&ended), without);
    let explained = stage.run("explain shop/web:1.0");
    assert!(explained.stdout.contains("in use by production, line 3"), "{explained:#?}");
}

#[test]
fn a_digest_and_an_id_are_known_without_a_tag() {
    let shop = Shop::open();
    let image = old("used", "2019-01-01T00:00:00Z");
    let digest = shop.push("shop/used", "v1", &image);
    let manifest: Value = serde_json::from_slice(&image.bytes).unwrap();
    let id = manifest["config"]["digest"].as_str().unwrap().to_owned();
    let stage = stage(&shop, json!([{ "file": "used.json" }]));
    for reference in [format!("registry.example/shop/used@{digest}"), digest.to_string(), id] {
        stage.write("used.json", &json!([reference]).to_string());
        let planned = stage.run("plan --output json");
        assert!(!removed(&planned).contains(&"shop/used:v1".to_owned()), "{planned:#?}");
        assert!(removed(&planned).contains(&"shop/web:1.0".to_owned()), "{planned:#?}");
    }
}

#[test]
fn another_policy_is_compared_by_what_it_would_remove_of_what_nobody_uses() {
    let shop = Shop::open();
    let stage = stage(&shop, json!([{ "file": "used.txt" }]));
    stage.write("used.txt", "registry.example/shop/web:1.0\n");
    stage.write("other.yml", "cleanup: { days_to_keep: 36500, protected_tags: [latest] }");
    let differs = |ended: &Ended| ended.stdout.contains("shop/web:1.0");
    let without = shop.stage();
    without.write("other.yml", "cleanup: { days_to_keep: 36500 }");
    assert!(differs(&without.run("plan --compare other.yml")));
    let compared = stage.run("plan --compare other.yml");
    assert!(compared.code == 0 && !differs(&compared), "both keep it: {compared:#?}");
    stage.write("used.txt", "");
    for command in ["plan --compare other.yml", "config check --online"] {
        let ended = stage.run(command);
        assert!(ended.code != 0 && ended.stderr.contains("lists nothing"), "{command}: {ended:#?}");
    }
}

/// `shop/multi:v1` points at an index of years ago. Another index has lost its tag, and lists an image of the first.
fn with_a_lost_index(shop: &Shop) -> (Digest, Digest) {
    let image = || old("shared", "2019-01-01T00:00:00Z").on("linux", "amd64");
    let other = old("other", "2019-01-01T00:00:00Z").on("linux", "arm64");
    shop.push("shop/multi", "v1", &Built::index([image()]));
    let lost = shop.push("shop/multi", "v2", &Built::index([image(), other]));
    shop.server.store().remove_tag(&"shop/multi".parse().unwrap(), &"v2".parse().unwrap()).unwrap();
    (lost, image().digest())
}

/// Whether a manifest of `shop/multi` is there.
fn is_there(shop: &Shop, digest: Digest) -> bool {
    let place = Place::RevisionLink { repo: "shop/multi".parse().unwrap(), digest };
    shop.server.store().read(&place).unwrap().is_some()
}

#[test]
fn what_a_used_index_needs_stays_though_no_tag_leads_to_it() {
    let shop = Shop::open();
    let (lost, shared) = with_a_lost_index(&shop);
    let stage = stage(&shop, json!([{ "file": "used.txt" }]));
    stage.write("used.txt", &format!("registry.example/shop/multi@{lost}"));
    let ended = stage.run("run --output json");
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(removed(&ended).contains(&"shop/multi:v1".to_owned()), "{ended:#?}");
    assert!(is_there(&shop, lost) && is_there(&shop, shared), "{ended:#?}");
}

#[test]
fn what_an_index_needs_stays_that_has_come_into_use_since_a_plan_was_saved() {
    let shop = Shop::open();
    let (lost, shared) = with_a_lost_index(&shop);
    let stage = stage(&shop, json!([{ "file": "used.txt" }]));
    stage.write("used.txt", "registry.example/shop/web:1.2");
    let planned = stage.run("plan --out plan.json --output json");
    assert!(planned.stdout.contains(&shared.to_string()), "{planned:#?}");
    stage.write("used.txt", &format!("registry.example/shop/multi@{lost}"));
    let ended = stage.run("apply plan.json --output json");
    assert!(removed(&ended).contains(&"shop/multi:v1".to_owned()), "{ended:#?}");
    assert!(is_there(&shop, lost) && is_there(&shop, shared), "{ended:#?}");
}

#[test]
fn a_used_digest_that_is_not_here_changes_nothing() {
    let shop = Shop::open();
    let stage = stage(&shop, json!([{ "file": "used.txt" }]));
    let digest = Digest::of(b"elsewhere");
    let lines = ["web", "web/none"].map(|name| format!("registry.example/shop/{name}@{digest}"));
    stage.write("used.txt", &lines.join("\n"));
    let ended = stage.run("run --output json");
    assert_eq!((ended.code, &ended.json()["gaps"]), (0, &json!([])), "{ended:#?}");
}

#[test]
fn a_source_that_cannot_be_read_stops_the_run() {
    let shop = Shop::open();
    let before = shop.files();
    shown!(stage(&shop, json!([{ "file": "used.txt" }])).run("run --output json"), @r"
    exit code 6
    -- stderr
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    error: in_use, file used.txt: used.txt: No such file or directory (os error 2)
    hint: nothing was deleted; a source without which a run may go on is marked `optional: true`
    ");
    assert_eq!(shop.files(), before);
}

#[test]
fn every_verb_that_judges_stops_for_it() {
    let shop = Shop::open();
    let stage = stage(&shop, json!([{ "command": "exit 3" }]));
    for line in ["plan", "run", "explain shop/web:1.0", "gc --untagged --plan --storage ."] {
        let ended = stage.run(line);
        assert!(ended.stderr.contains("the command failed: exit status: 3"), "{line}: {ended:#?}");
        assert_eq!(ended.code, 6, "{line}");
    }
}

#[test]
fn a_run_goes_on_without_an_optional_source_and_says_so() {
    let shop = Shop::open();
    let sources = json!([{ "file": "used.txt" }, { "name": "staging", "command": "echo broken >&2; false", "optional": true }]);
    let stage = stage(&shop, sources);
    stage.write("used.txt", "registry.example/shop/web:1.0");
    let warning = "in_use, staging: the command failed: exit status: 1: broken";
    let planned = stage.run("plan");
    assert!(planned.stdout.contains(&format!("warning: {warning}")), "{planned:#?}");
    assert_eq!(stage.run("plan --output json").json()["warnings"], json!([warning]));
    let ended = stage.run("run --output json");
    assert_eq!((ended.code, &ended.json()["warnings"]), (0, &json!([warning])), "{ended:#?}");
}

#[test]
fn a_source_that_lists_nothing_is_not_believed_unless_it_may() {
    let shop = Shop::open();
    let of = |more: Value| {
        let mut source = json!({ "command": "echo '# nobody'" });
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        stage(&shop, json!([source])).run("plan")
    };
    shown!(of(json!({})), @r"
    exit code 6
    -- stderr
    error: in_use, command `echo '# nobody'`: it lists nothing
    hint: if that can be, say `allow_empty: true` of it
    ");
    assert_eq!(of(json!({ "allow_empty": true })).code, 0);
    assert_eq!(of(json!({ "optional": true })).code, 0);
}

#[test]
fn references_of_other_registries_alone_are_not_believed_either() {
    let shop = Shop::open();
    let stage = |more: Value| {
        let mut source = json!({ "file": "used.txt" });
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let stage = stage(&shop, json!([source]));
        stage.write("used.txt", "other.example/shop/web:1.0 nginx:1.27");
        stage
    };
    shown!(stage(json!({})).run("plan"), @r"
    exit code 6
    -- stderr
    error: in_use: none of 2 references is of this registry, [host]
    hint: name the host that workloads pull from in registry.aliases; if nothing uses this registry yet, say `allow_empty: true` of every source
    ");
    assert_eq!(stage(json!({ "allow_empty": true })).run("plan").code, 0);
}

#[test]
fn a_list_that_is_none_is_not_believed_in_part() {
    let shop = Shop::open();
    let stage = stage(&shop, json!([{ "file": "used.txt" }]));
    for text in
        ["registry.example/shop/web:1.0\nNAME READY\n", "{\"items\":[]}", "[1]", "registry.example/App:v1"]
    {
        stage.write("used.txt", text);
        let ended = stage.run("plan");
        assert!(
            ended.code == 6 && ended.stderr.contains("it is not a list of references"),
            "{text}: {ended:#?}"
        );
    }
    std::fs::write(stage.path("used.txt"), b"registry.example/shop/web:\xff").unwrap();
    assert_eq!(stage.run("plan").code, 6);
}

#[test]
fn what_has_come_into_use_since_a_plan_was_saved_is_left_and_reported() {
    let shop = Shop::open();
    let stage = stage(&shop, json!([{ "file": "used.txt" }]));
    stage.write("used.txt", "registry.example/shop/web:1.2");
    assert_eq!(stage.run("plan --out plan.json").code, 0);
    stage.write("used.txt", "registry.example/shop/web:1.2 registry.example/shop/web:1.0");
    let ended = stage.run("apply plan.json --output json");
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(!removed(&ended).contains(&"shop/web:1.0".to_owned()), "{ended:#?}");
    assert!(removed(&ended).contains(&"shop/web:1.1".to_owned()), "{ended:#?}");
    let report = ended.json();
    let left = report["steps"].as_array().unwrap().iter().filter(|step| step["outcome"] == "stale");
    let why: Vec<&str> = left.map(|step| step["why"].as_str().unwrap()).collect();
    assert!(why.contains(&"it is in use by file used.txt, line 1"), "{why:?}");
    // Its signature was to go with it.
    assert_eq!(why.len(), 2, "{why:?}");
    assert!(report["warnings"].to_string().contains("shop/web:1.0"), "{report:#}");
    assert!(stage.run("plan --output json").json()["steps"].as_array().unwrap().is_empty());
}

#[test]
fn a_source_that_has_become_unreadable_since_stops_the_run_before_anything_is_deleted() {
    let shop = Shop::open();
    // It can be read once.
    let stage = stage(&shop, json!([{ "command": "cat used.txt; rm used.txt" }]));
    stage.write("used.txt", "registry.example/shop/web:1.2");
    let before = shop.files();
    let ended = stage.run("run");
    assert_eq!(ended.code, 6, "{ended:#?}");
    assert_eq!(shop.files(), before);
}

#[test]
fn a_command_that_never_ends_is_ended_with_all_it_started() {
    let shop = Shop::open();
    let stage = stage(&shop, json!([{ "command": "sleep 1000 & echo $! > pid; wait", "timeout": "1s" }]));
    let ended = stage.run("plan");
    assert!(ended.code == 6 && ended.stderr.contains("did not end within 1 seconds"), "{ended:#?}");
    wait_until_gone(&stage);
}

/// Serves `text` at every address, as long as the tests run.
fn serve(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            // `robot:secret`, in base64.
            let is_allowed = String::from_utf8_lossy(&request[..read]).contains("Basic cm9ib3Q6c2VjcmV0");
            let status = if is_allowed { "200 OK" } else { "401 Unauthorized" };
            let length = text.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
            );
        }
    });
    address
}

#[test]
fn an_interrupted_run_leaves_no_command_behind() {
    let shop = Shop::open();
    let stage = stage(&shop, json!([{ "command": "sleep 1000 & echo $! > unready; mv unready pid; wait" }]));
    let child = stage.start("plan");
    let until = Instant::now() + Duration::from_secs(30);
    while !stage.path("pid").exists() {
        assert!(Instant::now() < until, "the command was not started");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = Ended::wait(child);
    assert_eq!(ended.code, 130, "{ended:#?}");
    wait_until_gone(&stage);
}

/// Waits for the end of the process whose number is in the file `pid`.
fn wait_until_gone(stage: &Stage) {
    let pid = std::fs::read_to_string(stage.path("pid")).unwrap();
    let gone = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !gone() {
        assert!(Instant::now() < until, "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_url_serves_stays_and_its_secrets_are_not_shown() {
    let shop = Shop::open();
    let lists = serve("registry.example/shop/web:1.0");
    let url = format!("http://robot:secret@{lists}/list?token=secret");
    let stage = stage(&shop, json!([{ "url": url }]));
    let ended = stage.run("plan --all --output json");
    assert!(!removed(&ended).contains(&"shop/web:1.0".to_owned()), "{ended:#?}");
    assert!(ended.stdout.contains(&format!("url http://{lists}/list, line 1")), "{ended:#?}");
    assert!(!ended.text().contains("secret"), "{ended:#?}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = stage.configure(|config| {
        config["in_use"] = json!([{ "url": format!("http://robot:secret@{nobody}/list?token=secret") }]);
    });
    let ended = gone.run("plan");
    assert!(ended.code == 6 && ended.stderr.contains("Connection refused"), "{ended:#?}");
    assert!(!ended.text().contains("secret"), "{ended:#?}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_asked() {
    let shop = Shop::open();
    for sources in [
        json!([{}]),
        json!([{ "file": "a", "command": "b" }]),
        json!([{ "file": "a", "contexts": [] }]),
        json!([{ "kubernetes": { "context": "prod" } }]),
        json!([{ "kubernetes": { "resources": [{ "version": "v1", "plural": "apps", "jsonpath": "spec.image" }] } }]),
        json!([{ "url": "http://${NO_SUCH_VARIABLE}/" }]),
        json!({ "file": "a" }),
    ] {
        let ended = stage(&shop, sources.clone()).run("config check");
        assert_eq!(ended.code, 2, "{sources}: {ended:#?}");
    }
    let aliases = shop.stage().configure(|config| config["registry"]["aliases"] = json!(["a b"]));
    assert!(
        aliases.run("config check").stderr.contains("registry.aliases must each be host[:port][/prefix]")
    );
}

#[test]
fn an_untagged_manifest_that_is_used_outlives_a_collection_of_such() {
    let shop = Shop::open();
    let used = shop.push("shop/used", "v1", &old("used", "2019-01-01T00:00:00Z"));
    let left = shop.push("shop/used", "v2", &old("left", "2019-01-01T00:00:00Z"));
    for tag in ["v1", "v2"] {
        shop.server.store().remove_tag(&"shop/used".parse().unwrap(), &tag.parse().unwrap()).unwrap();
    }
    let stage = stage(&shop, json!([{ "file": "used.txt" }]));
    stage.write("used.txt", &format!("registry.example/shop/used@{used}"));
    let line = format!(
        "gc --untagged=0s --grace=0s --plan --output json --storage {}",
        shop.server.store().root().display()
    );
    let planned = stage.run(&line).json();
    let manifests = planned["manifests"].to_string();
    assert!(manifests.contains(&left.to_string()), "{planned:#}");
    assert!(!manifests.contains(&used.to_string()), "{planned:#}");
}
