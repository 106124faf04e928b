//! What a file says, and what is wrong with it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

const SMALL: &str = r#"
hostname = "relay.example.org"
data_dir = "/var/lib/barid"
[[listener]]
role = "relay"
address = "127.0.0.1:2525"
[[listener]]
role = "admin"
address = "127.0.0.1:8025"
[[client]]
name = "apps"
networks = ["127.0.0.0/8", "::1/128"]
sender_domains = ["*"]
"#;

/// The faults of a text, each on its line.
fn faults(text: &str) -> Vec<String> {
    match Config::parse("f", text) {
        Ok(_) => Vec::new(),
        Err(ConfigFaults(faults)) => faults.iter().map(ToString::to_string).collect(),
    }
}

/// Checks that a text has these faults, told by how they begin, and no others.
fn check(text: &str, want: &[&str]) {
    let told = faults(text);
    let all = told.join("\n");
    assert_eq!(told.len(), want.len(), "{all}");
    for (told, want) in told.iter().zip(want) {
        assert!(told.starts_with(want), "{told}\ndoes not begin with\n{want}");
    }
}

#[test]
fn a_small_file_gets_the_stated_defaults() {
    let config = Config::parse("f", SMALL).expect("is right");
    assert_eq!(config.limits.message_max_octets, 50 << 20);
    assert_eq!((config.limits.recipients_max, config.connections.per_address_max), (1000, 200));
    assert_eq!((config.outbound.port, config.outbound.allow_loopback), (25, false));
    assert_eq!(config.outbound.expire_after.as_secs(), 5 * 86_400);
    assert!(config.clients.at("127.0.0.9".parse().expect("ip")).is_some());
}

#[test]
fn faults_of_every_kind_are_told_at_once_each_with_its_place_and_remedy() {
    let text = r#"hostname = "relay..example"
data_dir = 5
colour = "red"
[[listener]]
role = "relay"
address = "127.0.0.1"
tls = "maybe"
[[client]]
name = "my apps"
networks = [
  "127.0.0.0/8",
  "127.0.0.0/99",
]
[[client]]
name = "web"
sender_domains = ["*bad"]
conections = 5
[limits]
message_size = "1KiB"
recipients = 3000000
errors = "many"
command_timeout = "5 minutes"
retry = ["5m"]
[delivery]
retry = []
port = 70000
allow_loopback = "yes"
[[provider]]
name = "m"
mx = ["*"]
[tls]
extra_ca = ["/nonexistent/ca.pem"]
certificates = [{ chain = "/nonexistent/chain.pem", key = "/nonexistent/key.pem" }]
[sotre]
memtable = "1MiB"
"#;
    check(
        text,
        &[
            "f: line 1: hostname: `relay..example` is no host name: a domain label is empty; write a host name such as",
            "f: line 2: data_dir: `5` is a number; write a path",
            "f: line 3: colour: `red` is no setting; here may stand: hostname, data_dir, include,",
            "f: line 6: listener[0].address: `127.0.0.1` is no address with a port; write an address and a port such as",
            "f: line 7: listener[0].tls: `maybe` is none of the words that may stand here; write \"offered\" or \"required\" or \"off\"",
            "f: line 8: client[my apps].sender_domains: is missing; write sender_domains = [\"example.org\"",
            "f: line 9: client[my apps].name: `my apps` is no client name; write a name of up to 32 letters",
            "f: line 12: client[my apps].networks: `127.0.0.0/99` is no network; write a network such as",
            "f: line 16: client[web].sender_domains: `*bad` names no domains: ",
            "f: line 17: client[web].conections: `5` is no setting; did you mean `connections`?",
            "f: line 19: limits.message_size: `1KiB` must be at least 64KiB (RFC 5321)",
            "f: line 20: limits.recipients: `3000000` must be from 100 to 1000000",
            "f: line 21: limits.errors: `many` is a text; write a whole number",
            "f: line 22: limits.command_timeout: `5 minutes` is no time span; write a time span such as \"5m\"",
            "f: line 23: limits.retry: is no setting; it belongs to [delivery]",
            "f: line 25: delivery.retry: `[]` must have at least one entry",
            "f: line 26: delivery.port: `70000` is out of range; write a whole number from 0 to 65535",
            "f: line 27: delivery.allow_loopback: `yes` is a text; write true or false",
            "f: line 28: provider[m]: limits nothing; give it `connections`, `rate` or `messages_per_connection`",
            "f: line 32: tls.extra_ca: `/nonexistent/ca.pem` does not serve: cannot read",
            "f: line 33: tls.certificates[0]: does not serve: cannot read /nonexistent/chain.pem",
            "f: line 34: sotre: is no setting; did you mean `store`?",
        ],
    );
}

#[test]
fn the_line_is_that_of_the_value_itself() {
    // the same text stands right in other places before it
    let text =
        SMALL.replace("[\"*\"]", "[\"*\"]\nclass = \"*\"") + "# recipients\n[limits]\nrecipients = 5\n";
    check(
        &text,
        &["f: line 14: client[apps].class: `*` is no class", "f: line 17: limits.recipients: `5` must be"],
    );
}

#[test]
fn what_is_missing_altogether_is_told() {
    check(
        "",
        &[
            "f: hostname: is missing; write hostname = \"relay.example.org\"",
            "f: data_dir: is missing; write data_dir = ",
            "f: listener: must have an entry of role = \"relay\"",
            "f: client: must have at least one entry: nobody",
        ],
    );
    let unknown = SMALL.replace("networks =", "sender_domain =");
    check(
        &unknown,
        &[
            "f: line 10: client[apps]: is known by nothing, so it may not send; give it `networks` or",
            "f: line 12: client[apps].sender_domain: is no setting; did you mean `sender_domains`?",
        ],
    );
    check(
        &SMALL.replace("networks = [\"127.0.0.0/8\", \"::1/128\"]\n", ""),
        &["f: line 10: client[apps]: is known by nothing, so it may not send; give it `networks` or"],
    );
}

#[test]
fn a_table_that_should_be_one_of_many_is_told_so() {
    let text = format!("{SMALL}[route]\ndomains = [\"*\"]\n[tls]\ncertificates = [\"x\"]\n");
    check(
        &text,
        &[
            "f: line 14: route: is one table; write [[route]], of which there may be several",
            "f: line 17: tls.certificates[0]: `x` is a text; write a table of: chain key",
        ],
    );
}

#[test]
fn a_name_is_one_clients() {
    let text =
        format!("{SMALL}[[client]]\nname = \"apps\"\nnetworks = [\"192.0.2.1\"]\nsender_domains = [\"*\"]\n");
    check(&text, &["f: line 14: client[apps]: has the name of the one in f line 10; give each its own"]);
}

#[test]
fn broken_toml_is_told_with_its_line_and_nothing_is_missed_for_it() {
    check("hostname = \"relay.example.org\ndata_dir = 5\n", &["f: line 1: is no TOML: invalid basic string"]);
    check("hostname = \n[limits\nx = 1", &["f: line 1: ", "f: line 2: "]);
    let twice = format!("hostname = \"a.example\"{SMALL}[limits]\nerrors = 0\n");
    check(
        &twice,
        &["f: line 2: hostname: is named twice", "f: line 15: limits.errors: `0` must be at least 1"],
    );
}

/// A directory with these files; the first is the main one.
fn directory(files: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let main = dir.path().join(files[0].0);
    (dir, main)
}

/// The faults of a file, with names relative to its directory.
fn faults_in(dir: &Path, main: &Path) -> String {
    let told = Config::load(main).expect_err("is wrong").to_string();
    told.replace(&format!("{}/", dir.display()), "")
}

#[test]
fn included_files_add_up_in_the_order_of_their_names() {
    let route = |domain: &str| format!("[[route]]\ndomains = [\"{domain}\"]\nvia = \"127.0.0.1:1\"\n");
    let main =
        format!("include = [\"conf.d/*.toml\"]\n{SMALL}{}[limits]\nerrors = 7\n", route("main.example"));
    let (_dir, main) = directory(&[
        ("barid.toml", &main),
        ("conf.d/b.toml", &(route("b.example") + "[limits]\nrecipients = 500\n")),
        ("conf.d/a.toml", &(format!("include = [\"more/x.toml\"]\n{}", route("a.example")))),
        ("conf.d/more/x.toml", &route("x.example")),
        ("conf.d/not-this.txt", "colour = 1"),
    ]);
    let config = Config::load(&main).expect("is right");
    let routes: Vec<String> =
        config.outbound.routes.0.iter().map(|route| route.domains[0].to_string()).collect();
    assert_eq!(routes, ["main.example", "a.example", "x.example", "b.example"]);
    assert_eq!((config.limits.errors_max, config.limits.recipients_max), (7, 500));
    let setting = config.settings.iter().find(|setting| setting.key == "limits.recipients").expect("told");
    let (file, line) = setting.origin.clone().expect("is set");
    assert!(file.ends_with("conf.d/b.toml") && line == 5, "{file} {line}");
}

#[test]
fn faults_of_all_files_are_told_and_a_setting_is_named_once() {
    let main = format!(
        "include = [\"a.toml\", \"b.toml\", \"gone.toml\", \"none/*.toml\"]\n{SMALL}[limits]\nerrors = 7\n"
    );
    let (dir, main) = directory(&[
        ("barid.toml", &main),
        ("a.toml", "[limits]\nerrors = 8\nidle_commands = 0\n"),
        ("b.toml", "include = [\"barid.toml\"]\n[delivery\n"),
    ]);
    let told = faults_in(dir.path(), &main);
    let want = "\
barid.toml: line 1: include: `gone.toml` is not there; name a file, or a pattern that may match none
a.toml: line 2: limits.errors: is set in barid.toml line 16 already; keep one of them
a.toml: line 3: limits.idle_commands: `0` must be at least 1
b.toml: line 2: ";
    assert!(told.starts_with(want) && told.lines().count() == 4, "{told}");
}

#[test]
fn files_that_include_each_other_are_a_fault() {
    let (dir, main) = directory(&[
        ("barid.toml", &format!("include = [\"*.toml\", \"../*.toml\"]\n{SMALL}")),
        ("a.toml", "include = [\"barid.toml\"]\n"),
    ]);
    let told = faults_in(dir.path(), &main);
    assert!(
        told.contains("a.toml: line 1: include: `barid.toml` leads to a file that is read already"),
        "{told}"
    );
}

#[test]
fn a_text_may_stand_elsewhere_and_is_not_shown() {
    let text = SMALL
        .replace("\"relay.example.org\"", "{ file = \"name\" }")
        .replace("[\"*\"]", "[{ env = \"CARGO_PKG_NAME\" }, \"b.example\"]");
    let (_dir, main) = directory(&[("barid.toml", &text), ("name", "secret.example.org\n")]);
    let told = Config::load(&main).map(|config| {
        let told: Vec<String> = config.settings.iter().map(setting_told).collect();
        (config.hostname.to_string(), told.join("\n"), format!("{:?}", config.settings))
    });
    let (hostname, shown, debugged) = told.expect("is right");
    assert_eq!(hostname, "secret.example.org");
    for text in [shown, debugged] {
        assert!(text.contains("hostname = { file = \"name\" }") && !text.contains("secret"), "{text}");
    }
    let (dir, main) = directory(&[("barid.toml", &text)]);
    let told = faults_in(dir.path(), &main);
    assert!(
        told.starts_with("barid.toml: line 2: hostname: `{ file = \"name\" }` cannot be read: ")
            && told.ends_with("; name a file that it may read"),
        "{told}"
    );
}

#[test]
fn what_is_in_force_is_shown_with_its_place() {
    let config = Config::parse("f", &format!("{SMALL}rate = \"90/m\"\n")).expect("is right");
    let told: Vec<String> = config.settings.iter().map(setting_told).collect();
    let has = |key: &str, origin: &str| {
        let is_it = |line: &&String| line.starts_with(key) && line.ends_with(origin);
        assert_eq!(told.iter().filter(is_it).count(), 1, "{key} {origin} in\n{}", told.join("\n"));
    };
    has("hostname = \"relay.example.org\" ", "# f line 2");
    has("client[apps].rate = \"90/m\"", "# f line 14");
    has("client[apps].class (not set)", "# default");
    has("listener[1].role = \"admin\"", "# f line 8");
    has("delivery.retry = [\"5m\", \"15m\", \"1h\", \"4h\"]", "# default");
    let json = setting_json(&config.settings[0]);
    assert_eq!(
        (&json["value"], &json["line"]),
        (&serde_json::json!("relay.example.org"), &serde_json::json!(2))
    );
}

#[test]
fn the_example_is_accepted_as_it_is_and_with_all_its_settings() {
    for text in [example(), minimal_example()] {
        assert_eq!(faults(&text), Vec::<String>::new(), "{text}");
    }
    let is_setting = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let whole: Vec<String> = example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if is_setting(rest) => rest.to_owned(),
            _ => line.to_owned(),
        })
        // files that are not there
        .filter(|line| {
            !["include", "extra_ca", "chain", "key", "[[tls.certificates", "trust_anchor", "provider_data"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .collect();
    let config = Config::parse("example", &whole.join("\n")).unwrap_or_else(|faults| panic!("{faults}"));
    let told = |setting: &Setting| setting.value.is_none().then(|| setting.key.clone());
    assert_eq!(
        config.settings.iter().filter_map(told).collect::<Vec<_>>(),
        ["dns.trust_anchor", "delivery.provider_data"]
    );
    // a default that is written out is the default
    let of = |text: &str, key: &str| {
        let config = Config::parse("f", text).unwrap_or_else(|faults| panic!("{faults}"));
        config.settings.into_iter().find(|setting| setting.key == key).and_then(|setting| setting.value)
    };
    for setting in config.settings.iter().filter(|setting| setting.key.contains("limits.")) {
        assert_eq!(setting.value, of(&example(), &setting.key), "{}", setting.key);
    }
}

#[test]
fn the_documentation_is_that_of_the_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let made = documentation();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "docs/settings.md is out of date: UPDATE_DOCS=1 cargo test --lib documentation");
}

#[test]
fn every_setting_in_the_readme_is_one() {
    let readme = include_str!("../../../README.md");
    let blocks = readme.split("```toml").skip(1).filter_map(|rest| rest.split("```").next());
    let text: String = blocks.collect();
    if let Err(faults) = Config::parse("README.md", &text) {
        panic!("{faults}");
    }
}
