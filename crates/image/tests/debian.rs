//! debian_slim and the steps on it, with real packages and containers.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clunk_core::recipe::{Base, PipInstall, Recipe, RunFunction, Step};
use clunk_core::{Digest, ErrorCode};
use clunk_image::{BuildEvent, BuiltImage, InUse};
use support::*;

fn slim(steps: Vec<Step>) -> Recipe {
    Recipe { base: Base::DebianSlim { python: None }, steps }
}

fn run(commands: &[&str]) -> Step {
    let commands = commands.iter().map(|command| command.to_string()).collect();
    Step::RunCommands { commands, secrets: Vec::new() }
}

fn pip(packages: &[&str]) -> Step {
    let packages = packages.iter().map(|name| name.to_string()).collect();
    Step::PipInstall(PipInstall { packages, ..PipInstall::default() })
}

fn docker(lines: &[&str], context: Option<Digest>) -> Step {
    Step::Dockerfile { lines: lines.iter().map(|line| line.to_string()).collect(), context }
}

/// A file of the topmost layer.
fn top(image: &BuiltImage, path: &str) -> PathBuf {
    image.layers[0].join(path)
}

#[test]
fn the_base_is_small_has_python_and_pip_and_bytecode() {
    in_world(|world| async {
        let (image, _) = build(&world.images, slim(vec![])).await;
        let image = image.unwrap();
        assert!(image.python.as_ref().unwrap().version.starts_with("3.13."), "{image:?}");
        assert!(image.size_bytes < 200 << 20, "{} bytes", image.size_bytes);
        let root = &image.layers[0];
        assert!(root.join("usr/lib/python3.13/__pycache__/argparse.cpython-313.pyc").is_file());
        assert!(!root.join("usr/lib/python3.13/EXTERNALLY-MANAGED").exists());
        assert_eq!(std::fs::read_link(root.join("bin")).unwrap(), PathBuf::from("usr/bin"));
        let runner = image.runner_dir.as_ref().unwrap();
        assert!(runner.join("__pycache__/run_function.cpython-313.pyc").is_file());
        let check = "test -z \"$(dpkg --audit)\" && pip --version && python -m venv /tmp/v && python -c 'import ssl, sqlite3, zoneinfo' && date +%Z | grep UTC";
        let (checked, heard) = build(&world.images, slim(vec![run(&[check])])).await;
        assert!(checked.is_ok(), "{}", heard.logs());
    });
}

#[test]
fn a_python_that_debian_lacks_is_refused_with_the_choice() {
    in_world(|world| async {
        let recipe = Recipe { base: Base::DebianSlim { python: Some("3.12".into()) }, steps: vec![] };
        let body = build(&world.images, recipe).await.0.unwrap_err().body();
        assert_eq!(body.code, ErrorCode::PythonNotAvailable);
        assert!(body.hint.unwrap().contains("3.11"));
    });
}

#[test]
fn python_packages_install_once_and_nothing_of_the_build_stays() {
    in_world(|world| async {
        let say = format!("python -c 'import six; print(six.__file__)' # {}", unique());
        let steps = vec![pip(&["six"]), run(&[&say])];
        let (image, heard) = build(&world.images, slim(steps.clone())).await;
        let image = image.unwrap();
        assert!(heard.logs().contains("dist-packages/six.py"), "{}", heard.logs());
        assert!(image.layers[1].join("usr/local/lib/python3.13/dist-packages/six.py").is_file());
        assert!(image.layers[1].join("usr/local/lib/python3.13/dist-packages/__pycache__").is_dir());
        for layer in &image.layers {
            assert!(!layer.join(".clunk-build").exists() && !layer.join(".clunk").exists());
            let bundle = layer.join("etc/ssl/certs/ca-certificates.crt");
            let host = std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
            assert_ne!(std::fs::read(bundle).ok(), Some(host));
        }
        let begun = Instant::now();
        let (again, heard) = build(&world.images, slim(steps)).await;
        assert!(again.is_ok() && heard.events.is_empty());
        assert!(begun.elapsed() < Duration::from_millis(100));
    });
}

#[test]
fn unknown_packages_are_named() {
    in_world(|world| async {
        let (result, _) = build(&world.images, slim(vec![pip(&["no-such-thing-hihi-42"])])).await;
        let error = result.unwrap_err();
        assert_eq!(error.body().code, ErrorCode::PackageNotFound);
        assert!(error.body().message.contains("`no-such-thing-hihi-42`"), "{error}");
        let step = Step::AptInstall { packages: vec!["no-such-thing-hihi-42".into()] };
        let body = build(&world.images, slim(vec![step])).await.0.unwrap_err().body();
        assert_eq!(body.code, ErrorCode::PackageNotFound);
        assert!(body.message.contains("`no-such-thing-hihi-42`"), "{body:?}");
    });
}

#[test]
fn debian_packages_install_with_their_libraries() {
    in_world(|world| async {
        let step = Step::AptInstall { packages: vec!["jq".into()] };
        // The other one asks for the same apt cache at the same time.
        let other = Step::AptInstall { packages: vec!["tree".into()] };
        let works = run(&["echo '{\"a\": 1}' | jq .a"]);
        let (one, two) = tokio::join!(
            build(&world.images, slim(vec![step, works])),
            build(&world.images, slim(vec![other]))
        );
        let image = one.0.unwrap();
        assert!(two.0.is_ok(), "{}", two.1.logs());
        let layer = &image.layers[1];
        assert!(layer.join("usr/bin/jq").is_file());
        for left in ["var/lib/apt/lists", "var/cache/apt/archives"] {
            let files = std::fs::read_dir(layer.join(left)).map_or(0, |entries| entries.count());
            assert_eq!(files, 0, "{left}");
        }
    });
}

#[test]
fn a_failed_step_shows_its_last_words_and_leaves_the_state_before() {
    in_world(|world| async {
        let word = unique();
        let steps = vec![run(&[&format!("echo {word} > /kept")]), run(&["echo on its way; seq 100; exit 7"])];
        let (result, _) = build(&world.images, slim(steps)).await;
        let error = result.unwrap_err();
        assert_eq!((error.step, error.tail.len()), (Some(3), 20));
        assert_eq!(error.tail.last().unwrap(), "100");
        let body = error.body();
        assert_eq!(body.code, ErrorCode::BuildFailed);
        assert!(body.message.contains("exit code 7"), "{body:?}");
        assert!(body.hint.unwrap().contains(&format!("clunk shell --image {}", error.image)));
        let partial = world.images.partial(error.partial.unwrap()).unwrap();
        assert_eq!(partial.failed_step, 3);
        assert_eq!(std::fs::read_to_string(partial.layers[0].join("kept")).unwrap().trim(), word);
        let event = serde_json::to_value(BuildEvent::error(&error)).unwrap();
        assert_eq!(
            (event["type"].as_str(), event["error"]["code"].as_str()),
            (Some("error"), Some("build-failed"))
        );
    });
}

#[test]
fn a_changed_step_is_built_from_there_on() {
    in_world(|world| async {
        let (one, two) = (unique(), unique());
        let steps = |last: &str| {
            slim(vec![run(&[&format!("echo {one} > /a")]), run(&[&format!("echo {last} > /b")])])
        };
        let (_, heard) = build(&world.images, steps(&one)).await;
        assert_eq!(heard.cached()[1..], [false, false]);
        let (image, heard) = build(&world.images, steps(&two)).await;
        assert_eq!(heard.cached(), [true, true, false]);
        assert_eq!(std::fs::read_to_string(top(&image.unwrap(), "b")).unwrap().trim(), two);
    });
}

#[test]
fn the_same_step_asked_twice_at_once_is_built_once() {
    in_world(|world| async {
        let word = unique();
        let first = run(&[&format!("echo {word}; cat /proc/sys/kernel/random/uuid | tee /id; sleep 1")]);
        let recipe = |last: &str| slim(vec![first.clone(), run(&[&format!("echo {last} {word}")])]);
        let (one, two) =
            tokio::join!(build(&world.images, recipe("one")), build(&world.images, recipe("two")));
        let id = |image: &BuiltImage| std::fs::read_to_string(image.layers[1].join("id")).unwrap();
        assert_eq!(id(&one.0.unwrap()), id(&two.0.unwrap()));
        let waited =
            |heard: &Heard| heard.events.iter().any(|event| matches!(event, BuildEvent::Waiting { .. }));
        assert!(waited(&one.1) != waited(&two.1));
        assert!(one.1.logs().contains(&word) && two.1.logs().contains(&word));
    });
}

#[test]
fn a_build_nobody_waits_for_ends_and_leaves_nothing() {
    in_world(|world| async {
        let word = unique();
        let recipe = slim(vec![run(&[&format!("echo {word}; sleep 600")])]);
        let (sender, mut events) = tokio::sync::mpsc::channel(64);
        let images = world.images.clone();
        let task = tokio::spawn(async move { images.build(recipe, false, sender).await });
        let begins = word.clone();
        while let Some(event) = events.recv().await {
            if matches!(&event, BuildEvent::Log { text } if *text == begins) {
                break;
            }
        }
        task.abort();
        let sleeping = || {
            let commands =
                std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
            commands
                .filter_map(|path| std::fs::read(path).ok())
                .any(|line| String::from_utf8_lossy(&line).contains(&word))
        };
        eventually("the end of the container", || !sleeping()).await;
    });
}

#[test]
fn files_land_where_links_of_the_image_lead() {
    in_world(|world| async {
        let word = unique();
        let tree = world.files.tree(&[
            ("/bin/hello", &format!("#!/bin/sh\necho {word}\n")),
            ("/tmp/note", &word),
            ("/data/link", "->/bin/hello"),
        ]);
        let steps = vec![
            Step::AddTree { tree },
            run(&["hello; /data/link; cat /tmp/note; python -V; stat -c %a /tmp"]),
        ];
        let (image, heard) = build(&world.images, slim(steps)).await;
        let image = image.unwrap_or_else(|error| panic!("{error}\n{}", heard.logs()));
        assert_eq!(heard.logs().matches(word.as_str()).count(), 3, "{}", heard.logs());
        assert!(heard.logs().contains("1777"));
        assert!(image.layers[1].join("usr/bin/hello").is_file());
        assert!(image.layers[1].join("usr/bin/hello").metadata().unwrap().permissions().mode() & 0o111 != 0);
    });
}

#[test]
fn a_tree_is_laid_out_once() {
    in_world(|world| async {
        use clunk_image::BlobSource;
        let digest = world.files.tree(&[("/srv/app/main.py", &unique()), ("/srv/app/run", "#!/bin/sh\n")]);
        let tree = BlobSource::tree(&*world.files, digest).await.unwrap();
        let (one, two) = tokio::join!(world.images.lay_out_tree(&tree), world.images.lay_out_tree(&tree));
        let folder = one.unwrap();
        assert_eq!(folder, two.unwrap());
        let run = folder.join("srv/app/run").metadata().unwrap();
        assert_eq!(run.permissions().mode() & 0o777, 0o755);
        assert_eq!(run.uid(), folder.metadata().unwrap().uid());
        assert_eq!(world.images.lay_out_tree(&tree).await.unwrap(), folder);
    });
}

#[test]
fn functions_run_while_building() {
    in_world(|world| async {
        let word = unique();
        let text = format!(
            "def download(name, where='/x'):\n    open(where, 'w').write(name + ' {word}')\n    print('done', name)\n"
        );
        let source = world.files.tree(&[("/root/app.py", &text)]);
        // pickle.dumps((("weights",), {"where": "/model"}))
        let arguments = "gAN9cQBYBQAAAHdoZXJlcQFYBgAAAC9tb2RlbHECc1gHAAAAd2VpZ2h0c3EDhXEEaACGcQUu";
        let arguments = arguments.to_string();
        let mut run = RunFunction {
            module: "app".into(),
            qualname: "download".into(),
            key: Digest::of(&word),
            source,
            arguments: pickled().unwrap_or(arguments),
            env: BTreeMap::new(),
            timeout_s: 60,
        };
        let (image, heard) = build(&world.images, slim(vec![Step::RunFunction(run.clone())])).await;
        let image = image.unwrap_or_else(|error| panic!("{error}\n{}", heard.logs()));
        assert!(heard.logs().contains("done weights"));
        assert_eq!(std::fs::read_to_string(top(&image, "model")).unwrap(), format!("weights {word}"));
        assert!(!top(&image, "root/app.py").exists() && !top(&image, "root/__pycache__").exists());
        run.key = Digest::of(unique());
        run.qualname = "nothing".into();
        let (failed, _) = build(&world.images, slim(vec![Step::RunFunction(run)])).await;
        assert!(failed.unwrap_err().tail.join("\n").contains("AttributeError"));
    });
}

/// `(("weights",), {"where": "/model"})`, pickled and in base 64.
fn pickled() -> Option<String> {
    let program = "import base64, pickle; print(base64.b64encode(pickle.dumps((('weights',), {'where': '/model'}))).decode())";
    let said = std::process::Command::new("python3").args(["-c", program]).output().ok()?;
    Some(String::from_utf8(said.stdout).ok()?.trim().into())
}

#[test]
fn a_dockerfile_builds() {
    in_world(|world| async {
        let word = unique();
        let context = world.files.tree(&[
            ("/context/app/a.py", "print('a')"),
            ("/context/app/b.txt", &word),
            ("/context/requirements.txt", "six\n"),
        ]);
        let lines = [
            "ARG GREETING=hello",
            "ENV WHO=world",
            "ENV WHO=${WHO}s TEXT=\"$GREETING ${WHO:-nobody}\"",
            "WORKDIR /srv/app",
            "COPY requirements.txt /tmp/",
            "COPY --chown=1000:1000 app/*.py ./",
            "COPY app /all/",
            "RUN echo \"$TEXT, $GREETING\" > greeting && \\",
            "    # a comment between",
            "    cat /tmp/requirements.txt",
            "RUN [\"python\", \"a.py\"]",
            "ENTRYPOINT [\"python\"]",
            "CMD [\"a.py\"]",
        ];
        let (image, heard) = build(&world.images, slim(vec![docker(&lines, Some(context))])).await;
        let image = image.unwrap_or_else(|error| panic!("{error}\n{}", heard.logs()));
        assert_eq!(image.config.workdir.as_deref(), Some("/srv/app"));
        assert_eq!(
            (image.config.entrypoint.join(" "), image.config.cmd.join(" ")),
            ("python".into(), "a.py".into())
        );
        assert!(
            heard.cached().iter().all(|cached| *cached) || heard.logs().contains("six"),
            "{}",
            heard.logs()
        );
        let find = |path: &str| {
            image.layers.iter().map(|layer| layer.join(path)).find(|path| path.exists()).unwrap()
        };
        assert_eq!(std::fs::read_to_string(find("srv/app/greeting")).unwrap(), "hello world, hello\n");
        assert_eq!(std::fs::read_to_string(find("all/b.txt")).unwrap(), word);
        let given = find("srv/app/a.py").metadata().unwrap().uid();
        assert_eq!(given - find("all/b.txt").metadata().unwrap().uid(), 1000);
    });
}

#[test]
fn a_missing_file_of_the_context_is_named() {
    in_world(|world| async {
        let context = world.files.tree(&[("/context/a", "a")]);
        let (result, _) =
            build(&world.images, slim(vec![docker(&["RUN true", "COPY nope /x"], Some(context))])).await;
        let body = result.unwrap_err().body();
        assert_eq!(body.code, ErrorCode::BadRecipe);
        assert!(body.message.contains("line 2") && body.message.contains("`nope`"), "{body:?}");
    });
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    in_world(|world| async {
        // A small disk of its own, with what the base needs fetched already.
        let folder = tempfile::tempdir_in(shared_state()).unwrap();
        let mount = |options: &[&str]| {
            let done = std::process::Command::new("mount").args(options).arg(folder.path()).status().unwrap();
            assert!(done.success());
        };
        mount(&["-t", "tmpfs", "-o", "size=60m,mode=755", "tmpfs"]);
        let images = open(folder.path(), world.files.clone()).await;
        let body = build(&images, slim(vec![])).await.0.unwrap_err().body();
        let temporary = || {
            let layers = std::fs::read_dir(folder.path().join("layers")).unwrap();
            layers.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(".tmp-"))
        };
        eventually("the end of the temporary files", || !temporary()).await;
        drop(images);
        let done = std::process::Command::new("umount").arg("-l").arg(folder.path()).status().unwrap();
        assert!(done.success());
        assert_eq!(body.code, ErrorCode::DiskFull, "{body:?}");
        assert!(body.hint.unwrap().contains("prune"));
    });
}

#[test]
fn a_step_that_eats_its_memory_is_told_so() {
    in_world(|world| async {
        let eat = format!("python -c 'x = b\"x\" * (2 << 30)' # {}", unique());
        let (result, heard) = build(&world.images, slim(vec![run(&[&eat])])).await;
        // The stand-in sets no limits.
        if std::env::var("CLUNK_TEST_RUNTIME").is_err() {
            let body = result.unwrap_err().body();
            assert_eq!(body.code, ErrorCode::OutOfMemory, "{body:?} {}", heard.logs());
            assert!(body.message.contains("1024 MiB"), "{body:?}");
        }
    });
}

#[test]
fn images_survive_a_new_process_and_pruning_keeps_what_is_in_use() {
    if let Some(reason) = unable() {
        eprintln!("skipped: {reason}");
        return;
    }
    // A folder of its own: pruning would take the images of the other tests.
    let state = tempfile::tempdir_in(shared_state().parent().unwrap()).unwrap();
    std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let threads = tokio::runtime::Runtime::new().unwrap();
    threads.block_on(async {
        let files = Files::new();
        share_packages(state.path());
        let steps = |text: &str| {
            let tree = files.tree(&[("/data/file", text)]);
            Recipe { base: Base::DebianSlim { python: None }, steps: vec![Step::AddTree { tree }] }
        };
        let images = open(state.path(), files.clone()).await;
        let (kept, gone) = (steps("kept"), steps("gone"));
        let kept = build(&images, kept).await.0.unwrap();
        let gone = build(&images, gone).await.0.unwrap();
        let leftover = state.path().join("layers/.tmp-leftover/fs");
        std::fs::create_dir_all(&leftover).unwrap();
        drop(images);
        let images = open(state.path(), files.clone()).await;
        assert!(!leftover.exists());
        assert_eq!(images.get(kept.id).unwrap().layers, kept.layers);
        let (_, layers) = images.inspect(kept.id).await.unwrap().unwrap();
        assert_eq!(layers.iter().map(|layer| layer.shared).collect::<Vec<_>>(), [true, false]);
        assert_eq!(images.list().len(), 2);
        let in_use = InUse { images: HashSet::from([kept.id]), trees: HashSet::new() };
        let freed = images.prune(&in_use).await.unwrap();
        assert!(freed > 0);
        assert!(images.get(gone.id).is_none() && !gone.layers[0].exists());
        assert!(kept.layers.iter().all(|layer| layer.is_dir()));
        assert_eq!(images.remove(kept.id, &in_use).await.unwrap_err().code(), ErrorCode::BadRequest);
        assert!(images.remove(kept.id, &InUse::default()).await.unwrap() > 0);
        assert_eq!(images.list().len(), 0);
    });
}
