use serde_json::json;

use super::*;

const ID: &str = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa";

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn detail(result: Result<impl std::fmt::Debug, Problem>) -> (u16, String) {
    let problem = result.unwrap_err();
    (problem.status, problem.detail)
}

#[test]
fn a_prediction_as_each_client_sends_it() {
    // Python 1.x, and its stream().
    let body = json!({"input": {"text": "Alice"}, "version": ID, "stream": true});
    let read = create_prediction(&bytes(&body), false).unwrap();
    assert_eq!(read.version, Some(Reference::Version { model: None, id: ID.parse().unwrap() }));
    assert_eq!(read.input["text"], "Alice");
    assert_eq!(read.webhook, None);
    // JavaScript, with a webhook.
    let body = json!({"webhook": "https://example.com/hook", "webhook_events_filter": ["start", "completed", "start"],
        "input": {}});
    let read = create_prediction(&bytes(&body), true).unwrap();
    let events = vec![WebhookEvent::Start, WebhookEvent::Completed];
    assert_eq!(read.webhook, Some(Webhook { url: "https://example.com/hook".into(), events }));
    // The oldest form of a webhook.
    let body = json!({"webhook_completed": "http://127.0.0.1:9/done", "input": {}, "version": "acme/hello"});
    let webhook = create_prediction(&bytes(&body), false).unwrap().webhook;
    assert_eq!(webhook.unwrap().events, [WebhookEvent::Completed]);
}

#[test]
fn all_mistakes_are_said_at_once() {
    let body = json!({"prompt": "hi", "webhok": "https://example.com", "version": 7});
    let (status, text) = detail(create_prediction(&bytes(&body), false));
    assert_eq!(status, 422);
    assert_eq!(
        text,
        "- input is required\n\
         - version: Invalid type. Expected: string, given: integer\n\
         - Additional property prompt is not allowed\n\
         - Additional property webhok is not allowed; did you mean webhook?\n"
    );
}

#[test]
fn wrong_values_of_a_prediction() {
    for (body, part) in [
        (json!({"input": [], "version": ID}), "input: Invalid type. Expected: object, given: array"),
        (json!({"input": {}, "version": "latest"}), "version: must be a version's id"),
        (json!({"input": {}, "version": ID, "webhook": "ftp://x/"}), "webhook: must be an address"),
        (json!({"input": {}, "version": ID, "webhook": "https://"}), "webhook: must be an address"),
        (json!({"input": {}, "version": ID, "webhook": "https://a b"}), "webhook: must be an address"),
        (
            json!({"input": {}, "version": ID, "webhook_events_filter": ["end"]}),
            "webhook_events_filter: must be one",
        ),
        (
            json!({"input": {}, "version": ID, "webhook_events_filter": "start"}),
            "Expected: array, given: string",
        ),
        (json!({"input": {}, "version": ID, "stream": "yes"}), "stream: Invalid type. Expected: boolean"),
        (json!([1]), "Expected: object, given: array"),
        (json!(null), "Expected: object, given: null"),
    ] {
        let (status, text) = detail(create_prediction(&bytes(&body), false));
        assert_eq!(status, 422, "{body}");
        assert!(text.contains(part), "{text}");
    }
    let named = json!({"input": {}, "version": ID});
    assert!(detail(create_prediction(&bytes(&named), true)).1.contains("version is not allowed"));
}

#[test]
fn what_is_no_json_says_where() {
    let (status, text) = detail(create_prediction(b"{\"input\": {},\n x", false));
    assert_eq!(status, 400);
    assert!(text.contains("line 2 column 2"), "{text}");
    assert_eq!(detail(create_prediction(b"", false)), (400, "the body is empty".into()));
    assert_eq!(detail(create_prediction(b"\xff\xfe", false)).0, 400);
}

#[test]
fn models() {
    let body = json!({"owner": "acme", "name": "hello", "visibility": "private", "hardware": "cpu",
        "description": "Says hello", "github_url": null});
    let read = create_model(&bytes(&body)).unwrap();
    assert_eq!((read.name.to_string().as_str(), read.visibility), ("acme/hello", Visibility::Private));
    assert_eq!(read.texts.description.as_deref(), Some("Says hello"));
    assert_eq!((read.texts.github_url.as_deref(), read.texts.paper_url), (Some(""), None));
    let (status, text) =
        detail(create_model(&bytes(&json!({"owner": "a/b", "name": "", "visibility": "secret"}))));
    assert_eq!(status, 422);
    for part in
        ["owner: must be 1 to 64", "name: must be 1 to 64", "visibility: must be one", "hardware is required"]
    {
        assert!(text.contains(part), "{text}");
    }
    let (texts, _) = update_model(&bytes(&json!({"readme": "# Hello", "paper_url": ""}))).unwrap();
    assert_eq!((texts.readme.as_deref(), texts.paper_url.as_deref()), (Some("# Hello"), Some("")));
    let (texts, visibility) = update_model(&bytes(&json!({"visibility": "private"}))).unwrap();
    assert_eq!((texts, visibility), (ModelTexts::default(), Some(Visibility::Private)));
    assert!(detail(update_model(&bytes(&json!({"run_count": 9})))).1.contains("run_count is not allowed"));
}

#[test]
fn deployments() {
    let body = json!({"name": "hello", "model": "acme/hello", "version": ID, "hardware": "cpu",
        "min_instances": 0, "max_instances": 3});
    let read = create_deployment(&bytes(&body)).unwrap();
    assert_eq!((read.model.to_string().as_str(), read.configuration.max_instances), ("acme/hello", 3));
    let body = json!({"min_instances": 5, "max_instances": 3});
    assert!(detail(update_deployment(&bytes(&body))).1.contains("min_instances (5) must not be more"));
    for wrong in [json!(-1), json!(1.5), json!(10_001), json!("3"), json!(1e300)] {
        assert_eq!(detail(update_deployment(&bytes(&json!({"max_instances": wrong})))).0, 422, "{wrong}");
    }
    assert_eq!(update_deployment(b"{}").unwrap(), UpdateDeployment::default());
}

#[test]
fn trainings() {
    let body = json!({"destination": "acme/tuned", "input": {"steps": 3}});
    assert_eq!(create_training(&bytes(&body)).unwrap().destination, "acme/tuned");
    assert_eq!(detail(create_training(b"{}")).1, "- destination is required\n- input is required\n");
}

#[test]
fn a_search_is_bare_or_quoted() {
    assert_eq!(search(b" blur an image\n").unwrap(), "blur an image");
    assert_eq!(search(br#""blur \"it\"""#).unwrap(), "blur \"it\"");
    assert_eq!(search(b"\xff").unwrap_err().status, 400);
}

/// No body makes the readers panic, and every refusal says something.
#[test]
fn any_bytes_are_read_or_refused() {
    let seeds = [
        json!({"input": {"a": [1, null, "x"]}, "version": ID, "webhook": "https://example.com/", "stream": false}),
        json!({"owner": "a", "name": "b", "visibility": "public", "hardware": "cpu", "description": "ü"}),
        json!({"name": "d", "model": "a/b", "version": ID, "hardware": "cpu", "min_instances": 1, "max_instances": 2}),
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for round in 0..6_000 {
        let mut body = bytes(&seeds[round % seeds.len()]);
        for _ in 0..random() % 6 {
            let at = random() % body.len().max(1);
            match random() % 4 {
                0 if !body.is_empty() => body[at] = random() as u8,
                1 if !body.is_empty() => drop(body.remove(at)),
                2 => body.insert(at.min(body.len()), b"{}[]\",:0n-\\"[random() % 11]),
                _ => body.truncate(at),
            }
        }
        let refusals = [
            create_prediction(&body, false).err(),
            create_prediction(&body, true).err(),
            create_training(&body).err(),
            create_model(&body).err(),
            update_model(&body).err(),
            create_deployment(&body).err(),
            update_deployment(&body).err(),
        ];
        for problem in refusals.into_iter().flatten() {
            assert!([400, 422].contains(&problem.status) && !problem.detail.is_empty());
        }
    }
}
