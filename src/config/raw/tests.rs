use super::*;

fn problems(text: &str) -> Vec<String> {
    read(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn problems_of_form_are_all_found_with_their_places() {
    let text = "version: 1\nlistner: []\nlisteners:\n  - bind: 443\n    acept: [tls]\nroutes:\n  - provider: apn\n    deadline: 7\n    keys: [1234567890]\n    body: 8KB\n";
    let found = problems(text);
    assert_eq!(
        found,
        [
            "2:1: listner: the key `listner` is not known\n  hint: did you mean `listeners`?",
            "4:11: listeners[0].bind: a list is expected here, not a number\n  hint: write a list: [one, two]",
            "5:5: listeners[0].acept: the key `acept` is not known\n  hint: did you mean `accept`?",
            "7:15: routes[0].provider: `apn` is not known here\n  hint: did you mean `apns`? allowed: apns, fcm, mattermost",
            "8:15: routes[0].deadline: a duration needs a unit\n  hint: did you mean 7s?",
            "9:12: routes[0].keys[0]: text is expected here, not a number\n  hint: put it in quotes",
            "10:11: routes[0].body: this is not a size\n  hint: write a size such as 512B, 8KiB or 1MiB",
        ]
    );
}

#[test]
fn places_count_as_the_file_does_after_an_element_was_cut_out() {
    let document = read("routes:\n  - 5\n  - provider: fcm\n");
    assert_eq!(document.problems.len(), 1);
    assert_eq!(document.file.routes.as_deref().map(<[Route]>::len), Some(1));
    let problem = document.places.problem("routes[0].egress", "x".to_owned(), None);
    assert_eq!((problem.line, problem.path.as_str()), (3, "routes[1].egress"));
    assert!(document.places.is_unread("routes"));
}

#[test]
fn a_password_in_the_file_is_refused_and_never_quoted() {
    for secret in ["hunter2hunter2", "{ value: hunter2hunter2 }", "12345678"] {
        let text = format!("admin: {{ token: {secret} }}\n");
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!found[0].contains("hunter2") && !found[0].contains("123456"), "{found:?}");
    }
    assert!(problems("admin: { token: hunter2 }\n")[0].contains("{ file: PATH }"));
}

#[test]
fn usual_slips_of_yaml_are_said_in_an_administrators_words() {
    for (text, told) in [
        (
            "version: 1\n---\nversion: 1\n",
            "2:1: a second YAML document begins here\n  hint: relay.yaml is one document",
        ),
        ("a: \"x\nb: \"y\"\n", "a quote that is not closed, here or on a line above"),
        ("listeners:\n  - bind: [[::]:443]\n", "such as \"[::]:443\""),
        ("version: 1\nplacement pre\n", "a key without its colon\n  hint: write `key: value`"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(told), "{text}: {found:?}");
    }
    let cut = b"version: 1\n# caf\xe9\n";
    let problem = not_utf8(cut, 16);
    assert!(problem.to_string().starts_with("2:6: this is not UTF-8\n  hint: save"), "{problem}");
    assert!(not_utf8(b"\xff\xfev\0", 0).to_string().contains("UTF-16"));
}

#[test]
fn syntax_errors_have_a_place_and_no_snippet() {
    for (text, line) in [
        ("version: 1\nlisteners: [\n", 2),
        ("version: 1\nversion: 1\n", 2),
        ("version: 1\n\tdrain: 7s\n", 2),
        ("version: 1\n---\nversion: 1\n", 2),
    ] {
        let document = read(text);
        assert_eq!(document.problems.len(), 1, "{text}: {:?}", document.problems);
        assert_eq!(document.problems[0].line, line, "{text}: {:?}", document.problems);
    }
    let found = problems("admin: { token: \"hunter2\n");
    assert!(!found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn anchors_cannot_multiply() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, of) in
        ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"])
    {
        let list = vec![format!("*{of}"); 10].join(",");
        text.push_str(&format!("{name}: &{name} [{list}]\n"));
    }
    assert_eq!(read(&text).problems.len(), 1);
    assert_eq!(problems(&"[".repeat(10_000)).len(), 1);
    assert_eq!(problems("").len(), 1);
}

#[test]
fn words_with_and_without_content_are_both_read() {
    let file = read("routes: [{ next_hop: relay }, { next_hop: { relay: { sign_with: k } } }, { next_hop: origin }]").file;
    let hops: Vec<_> =
        file.routes.unwrap().into_iter().filter_map(|route| route.next_hop).collect();
    assert_eq!(
        hops,
        [
            NextHop::Relay(RelayHop::default()),
            NextHop::Relay(RelayHop { sign_with: Some("k".to_owned()) }),
            NextHop::Origin
        ]
    );
}

#[test]
fn what_is_written_reads_the_same() {
    let text = "version: 1\nlog: { access: on, level: info }\negress: { a: { dns: { servers: system } , connect_to: { 'a.example:443': '[::1]:1' } } }\nroutes: [{ teams: ['1234567890', '12E4567890', 'no', 'null'] }]\n";
    let document = read(text);
    assert_eq!(document.problems, []);
    let again = read(&write(&document.file).unwrap());
    assert_eq!(again.problems, []);
    assert_eq!(again.file, document.file);
}
