use proptest::prelude::*;

use super::*;
use crate::Digest;
use crate::function::FunctionSpec;
use crate::id::ImageId;

fn node(id: u8) -> Node {
    Node {
        id: NodeId::from_parts(id.into(), [id; 10]),
        cpu_millis: 4000,
        cpu_overcommit: 2.0,
        cpu_used_millis: 0,
        memory_mib: 8192,
        memory_used_mib: 0,
        disk_mib: 100_000,
        disk_used_mib: 0,
        gpus: Vec::new(),
        replicas: 0,
        max_replicas: 100,
        schedulable: true,
    }
}

fn with_gpus(id: u8, kind: &str, total: u32) -> Node {
    Node { gpus: vec![GpuGroup { kind: kind.into(), total, used: 0 }], ..node(id) }
}

fn fleet(nodes: impl IntoIterator<Item = Node>) -> Fleet {
    let mut fleet = Fleet::new();
    nodes.into_iter().for_each(|node| fleet.add(node));
    fleet
}

fn image(name: &str) -> ImageId {
    ImageId::of(Digest::of(name.as_bytes()))
}

fn small() -> Ask {
    Ask { cpu_millis: 125, memory_mib: 128, ..Ask::default() }
}

fn gpu(text: &str) -> Ask {
    Ask { gpus: text.split(',').map(|one| one.parse().unwrap()).collect(), ..small() }
}

fn placed_on(fleet: &mut Fleet, ask: &Ask) -> u64 {
    fleet.place(ask, image("none")).unwrap().node.created_ms()
}

#[test]
fn replicas_are_packed_and_what_is_given_back_is_free() {
    let mut fleet = fleet([node(1), node(2)]);
    let placed = fleet.place(&small(), image("a")).unwrap();
    for _ in 0..20 {
        assert_eq!(fleet.place(&small(), image("a")).unwrap().node, placed.node);
    }
    let before = fleet.get(placed.node).unwrap().clone();
    let more = fleet.place(&small(), image("a")).unwrap();
    fleet.release(&more, &small());
    assert_eq!(fleet.get(placed.node), Some(&before));
}

#[test]
fn the_scarcest_resource_decides_what_is_the_best_fit() {
    let mut fleet = fleet([node(1), node(2)]);
    // One has little memory left, the other few cores.
    fleet.get_mut(node(1).id).unwrap().memory_used_mib = 7000;
    fleet.get_mut(node(2).id).unwrap().cpu_used_millis = 6000;
    assert_eq!(placed_on(&mut fleet, &Ask { cpu_millis: 10, memory_mib: 1000, ..Ask::default() }), 1);
    assert_eq!(placed_on(&mut fleet, &Ask { cpu_millis: 1000, memory_mib: 10, ..Ask::default() }), 2);
}

#[test]
fn a_machine_with_the_image_is_preferred() {
    let mut fleet = fleet([node(1), node(2), node(3)]);
    fleet.get_mut(node(1).id).unwrap().memory_used_mib = 4000;
    fleet.add_image(node(3).id, image("a"));
    assert_eq!(fleet.place(&small(), image("a")).unwrap().node, node(3).id);
    fleet.remove_image(node(3).id, image("a"));
    assert_eq!(fleet.place(&small(), image("a")).unwrap().node, node(1).id);
}

#[test]
fn work_without_gpus_leaves_their_machines_alone() {
    let mut fleet = fleet([with_gpus(1, "H100", 8), node(2)]);
    fleet.add_image(node(1).id, image("a"));
    let large = Ask { memory_mib: 5000, ..small() };
    assert_eq!(fleet.place(&large, image("a")).unwrap().node, node(2).id);
    assert_eq!(fleet.place(&large, image("a")).unwrap().node, node(1).id);
}

#[test]
fn gpus_fall_back_in_order() {
    let mut fleet = fleet([with_gpus(1, "A10G", 4), with_gpus(2, "H100", 2), with_gpus(3, "T4", 1)]);
    let kind = |placed: Result<Placed, NoRoom>| placed.unwrap().gpu.unwrap().to_string();
    assert_eq!(kind(fleet.place(&gpu("h100:2,a10"), image("a"))), "H100:2");
    assert_eq!(kind(fleet.place(&gpu("h100:2,a10"), image("a"))), "A10G:1");
    assert_eq!(fleet.place(&gpu("h100"), image("a")), Err(NoRoom::Now));
    // The kinds are as good as each other; the first by name is taken.
    assert_eq!(kind(fleet.place(&gpu("any:3"), image("a"))), "A10G:3");
    assert_eq!(kind(fleet.place(&gpu("any"), image("a"))), "T4:1");
    assert_eq!(fleet.place(&gpu("any"), image("a")), Err(NoRoom::Now));
}

#[test]
fn kinds_match_by_device_and_may_be_larger() {
    let matches = |asked: &str, kind: &str| asked.parse::<GpuAsk>().unwrap().matches(kind).is_some();
    for (asked, kind) in [
        ("any", "T4"),
        ("a10", "A10G"),
        ("A10G", "A10"),
        ("a100", "A100-80GB"),
        ("h100", "H200"),
        ("h100!", "H100"),
    ] {
        assert!(matches(asked, kind), "{asked} {kind}");
    }
    for (asked, kind) in [
        ("h100!", "H200"),
        ("h200", "H100"),
        ("a100-80gb", "A100-40GB"),
        ("l4", "L40S"),
        ("a100!", "A100-80GB"),
    ] {
        assert!(!matches(asked, kind), "{asked} {kind}");
    }
    let mut fleet = fleet([with_gpus(1, "H200", 1), with_gpus(2, "H100", 1)]);
    assert_eq!(placed_on(&mut fleet, &gpu("h100")), 2);
    assert_eq!(placed_on(&mut fleet, &gpu("h100")), 1);
}

#[test]
fn a_gpu_in_text_is_a_kind_and_a_count() {
    assert_eq!("h100:2".parse(), Ok(GpuAsk { kind: "H100".into(), count: 2 }));
    for text in ["", ":2", "h100:0", "h100:65", "h100:", "h100:two", "h 100", "!", "h100:1:1"] {
        assert!(text.parse::<GpuAsk>().is_err(), "{text}");
    }
}

#[test]
fn a_function_asks_for_its_resources_or_the_defaults() {
    let json =
        r#"{"name":"f","entry":{"module":"m","qualname":"f"},"image":"im-00112233445566778899aabbccddeeff"}"#;
    let mut spec: FunctionSpec = serde_json::from_str(json).unwrap();
    assert_eq!(Ask::of(&spec), Ok(small()));
    spec.resources.gpu = vec!["H100:2".into(), "any".into()];
    assert_eq!(Ask::of(&spec), Ok(gpu("h100:2,any")));
    spec.resources.gpu = vec!["H100:0".into()];
    let error = Ask::of(&spec).unwrap_err().to_string();
    assert!(error.starts_with("function `f`: gpu must be a kind, and a count from 1 to 64"), "{error}");
}

#[test]
fn what_can_never_fit_is_said_in_words() {
    let large = Node { cpu_millis: 2000, memory_mib: 22_118, ..node(2) };
    let mut fleet = fleet([Node { cpu_millis: 1000, memory_mib: 512, ..node(1) }, large]);
    let ask = Ask { cpu_millis: 64_000, memory_mib: 900 * 1024, ..Ask::default() };
    let never = fleet.place(&ask, image("a")).unwrap_err().to_string();
    assert_eq!(
        never,
        "asks for 64 cores and 900 GiB of memory; the largest machine has 2 cores, 21.6 GiB of memory and no GPU"
    );
    let never = fleet.fits_ever(&gpu("h100:4,any")).unwrap_err().to_string();
    assert!(
        never.starts_with("asks for 0.125 cores, 128 MiB of memory and 4 H100 GPUs or 1 GPU; "),
        "{never}"
    );
    // Shares are promised twice; one replica still has no more than the machine.
    assert!(fleet.fits_ever(&Ask { cpu_millis: 2000, ..small() }).is_ok());
    assert!(fleet.fits_ever(&Ask { cpu_millis: 2001, ..small() }).is_err());
}

#[test]
fn no_machine_at_all_is_not_for_ever() {
    assert_eq!(Fleet::new().place(&small(), image("a")), Err(NoRoom::Now));
}

#[test]
fn a_machine_that_takes_none_or_has_left_gets_none() {
    let mut fleet = fleet([node(1), node(2)]);
    fleet.get_mut(node(1).id).unwrap().schedulable = false;
    let placed = fleet.place(&small(), image("a")).unwrap();
    assert_eq!(placed.node, node(2).id);
    assert_eq!(fleet.remove(node(2).id).unwrap().replicas, 1);
    fleet.release(&placed, &small());
    assert_eq!(fleet.place(&small(), image("a")), Err(NoRoom::Now));
    fleet.get_mut(node(1).id).unwrap().schedulable = true;
    assert!(fleet.place(&small(), image("a")).is_ok());
    assert_eq!((fleet.len(), fleet.totals().memory_mib), (1, 8192));
}

#[derive(Debug, Clone)]
enum Step {
    Place(Ask, u8),
    Release(usize),
    Remove(u8),
    Add(u8),
    Toggle(u8),
    Image(u8, u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let ask = (0u64..5000, 0u64..9000, 0u64..60_000, 0usize..5).prop_map(
        |(cpu_millis, memory_mib, disk_mib, gpus)| {
            let gpus = ["", "h100", "h100:3,a10", "any:2", "a10!"][gpus];
            let gpus =
                gpus.split(',').filter(|one| !one.is_empty()).map(|one| one.parse().unwrap()).collect();
            Ask { cpu_millis, memory_mib, disk_mib, gpus }
        },
    );
    prop_oneof![
        6 => (ask, 0u8..3).prop_map(|(ask, image)| Step::Place(ask, image)),
        3 => any::<usize>().prop_map(Step::Release),
        1 => (0u8..8).prop_map(Step::Remove),
        1 => (0u8..8).prop_map(Step::Add),
        1 => (0u8..8).prop_map(Step::Toggle),
        1 => (0u8..8, 0u8..3).prop_map(|(node, image)| Step::Image(node, image)),
    ]
}

fn machine(id: u8) -> Node {
    match id % 4 {
        0 => with_gpus(id, "H100", 4),
        1 => with_gpus(id, "A10G", 2),
        _ => node(id),
    }
}

fn gpus_fit(node: &Node, ask: &Ask) -> bool {
    let has = |gpu: &GpuAsk| {
        node.gpus.iter().any(|group| gpu.matches(&group.kind).is_some() && group.free() >= gpu.count)
    };
    ask.gpus.is_empty() || ask.gpus.iter().any(has)
}

fn check_limits(fleet: &Fleet) {
    for node in fleet.nodes() {
        assert!(node.cpu_used_millis <= node.cpu_shares_millis());
        assert!(node.memory_used_mib <= node.memory_mib && node.disk_used_mib <= node.disk_mib);
        assert!(node.gpus.iter().all(|group| group.used <= group.total));
    }
}

proptest! {
    /// The index agrees with a look at every machine: a place is found exactly when there is one, and limits are kept.
    #[test]
    fn the_index_is_true(steps in prop::collection::vec(any_step(), 0..80)) {
        let mut fleet = fleet((0..4).map(machine));
        let mut held: Vec<(Placed, Ask)> = Vec::new();
        for step in steps {
            match step {
                Step::Place(ask, name) => {
                    let there_is = fleet.nodes().any(|node| node.has_room(&ask) && gpus_fit(node, &ask));
                    let plain = fleet.nodes().any(|node| node.has_room(&ask) && node.gpus.is_empty());
                    match fleet.place(&ask, image(&name.to_string())) {
                        Ok(placed) => {
                            prop_assert!(there_is);
                            let on_plain = fleet.get(placed.node).unwrap().gpus.is_empty();
                            prop_assert!(!ask.gpus.is_empty() || on_plain == plain);
                            held.push((placed, ask));
                        }
                        Err(_) => prop_assert!(!there_is, "room was not found for {:?}", ask),
                    }
                }
                Step::Release(at) if !held.is_empty() => {
                    let (placed, ask) = held.swap_remove(at % held.len());
                    fleet.release(&placed, &ask);
                }
                Step::Release(_) => {}
                Step::Remove(id) => {
                    fleet.remove(machine(id).id);
                    held.retain(|(placed, _)| placed.node != machine(id).id);
                }
                Step::Add(id) if fleet.get(machine(id).id).is_none() => fleet.add(machine(id)),
                Step::Add(_) => {}
                Step::Toggle(id) => {
                    if let Some(mut node) = fleet.get_mut(machine(id).id) {
                        node.schedulable = !node.schedulable;
                    }
                }
                Step::Image(id, name) => fleet.add_image(machine(id).id, image(&name.to_string())),
            }
            check_limits(&fleet);
        }
        for (placed, ask) in held.drain(..) {
            fleet.release(&placed, &ask);
        }
        prop_assert!(fleet.nodes().all(|node| node.replicas == 0 && node.memory_used_mib == 0));
    }
}
