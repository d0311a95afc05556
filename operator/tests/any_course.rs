//! Whatever happens, in whatever order: no step is touched before the gates before it, and everything comes to
//! an end. The sequences are random and the same in every run.

mod sim;

use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::stack::{LogLevel, Mode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use sim::{World, key};

const RUNS: u64 = 20;
const ACTS: usize = 25;
/// In the order in which a revision reaches them.
const ORDER: [(&str, &str); 4] =
    [("Deployment", "ai-service"), ("Deployment", "worker"), ("StatefulSet", "beat"), ("Deployment", "dashboard")];
const LEVELS: [Option<LogLevel>; 3] = [None, Some(LogLevel::Debug), Some(LogLevel::Warning)];
const TAGS: [&str; 3] = ["1.0.0", "2.0.0", "3.0.0"];

/// Something happens.
fn act(world: &mut World, random: &mut StdRng) -> String {
    let workload = |random: &mut StdRng| {
        let (kind, component) = ORDER[random.random_range(0..ORDER.len())];
        key(kind, &format!("odoo-ai-{component}"))
    };
    match random.random_range(0..12) {
        0 => {
            let level = LEVELS[random.random_range(0..LEVELS.len())];
            world.edit(|stack| stack.spec.log_level = level);
            format!("level {level:?}")
        }
        1 => {
            let tag = TAGS[random.random_range(0..TAGS.len())];
            world.edit(|stack| stack.spec.images.ai_service = format!("registry.example.com/ai-service:{tag}"));
            format!("image {tag}")
        }
        2 => {
            let mode = if random.random_bool(0.3) { Mode::Manual } else { Mode::Automatic };
            world.edit(|stack| stack.spec.rollout.rollback = Some(mode));
            format!("rollback {mode}")
        }
        3 => {
            world.now += SignedDuration::from_secs(random.random_range(1..1500));
            "time".to_owned()
        }
        4 => {
            let token = random.random::<u32>().to_string();
            let name = ["retry-requested-at", "rollback-requested-at"][random.random_range(0..2)];
            let annotations = world.stack.metadata.annotations.get_or_insert_default();
            annotations.insert(format!("odoo-ai.atmatasolutions.com/{name}"), token);
            name.to_owned()
        }
        5 => {
            let workload = workload(random);
            crash(world, &workload.name);
            format!("{workload} crashes")
        }
        6 => {
            let workload = workload(random);
            if let Some(object) = world.objects.get_mut(&workload) {
                object["status"] = json!({"observedGeneration": object["metadata"]["generation"], "replicas": 1});
            }
            format!("{workload} is away")
        }
        _ => {
            for (kind, component) in ORDER {
                if random.random_bool(0.7) {
                    world.becomes_ready(&key(kind, &format!("odoo-ai-{component}")));
                }
            }
            let jobs: Vec<_> = world.objects.keys().filter(|key| key.kind == "Job").cloned().collect();
            for job in jobs {
                world.becomes_ready(&job);
            }
            "ready".to_owned()
        }
    }
}

/// A pod of what the workload runs was restarted three times.
fn crash(world: &mut World, name: &str) {
    let Some(object) = world
        .objects
        .values()
        .find(|object| object["metadata"]["name"] == name && object["spec"]["template"].is_object())
    else {
        return;
    };
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    let container = json!({
        "name": labels["app.kubernetes.io/component"], "image": "x", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    });
    let pod = json!({
        "metadata": {"name": format!("{name}-bad"), "labels": labels}, "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Running", "containerStatuses": [container]},
    });
    world.objects.insert(key("Pod", &format!("{name}-bad")), pod);
    if let Some(object) = world
        .objects
        .values_mut()
        .find(|object| object["metadata"]["name"] == name && object["spec"]["template"].is_object())
    {
        object["status"] = json!({"observedGeneration": object["metadata"]["generation"], "replicas": 1});
    }
}

/// What each component runs.
fn runs(world: &World) -> Vec<Option<String>> {
    ORDER.iter().map(|(kind, component)| world.revision(kind, component).map(str::to_owned)).collect()
}

#[test]
fn no_step_comes_before_its_turn_and_everything_ends() {
    for seed in 0..RUNS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        world.run_to_the_end();
        let mut told = Vec::new();
        for _ in 0..ACTS {
            told.push(act(&mut world, &mut random));
            for _ in 0..random.random_range(1..4) {
                let before = runs(&world);
                let _ = world.reconcile(random.random_bool(0.5));
                let now = runs(&world);
                for (place, revision) in now.iter().enumerate().filter(|(place, it)| **it != before[*place]) {
                    let early = now[..place].iter().any(|it| it != revision);
                    assert!(!early, "seed {seed}: from {before:?} to {now:?} after {told:?}");
                }
            }
        }
        // Nothing is wrong any more, and time goes by.
        for _ in 0..80 {
            world.objects.retain(|key, _| !key.name.ends_with("-bad"));
            world.everything_becomes_ready();
            world.now += SignedDuration::from_secs(30);
            let _ = world.reconcile(true);
        }
        let settled = world.condition("Ready") == Some("True") || world.condition("Stalled") == Some("True");
        assert!(settled, "seed {seed}: {:?} after {told:?}", world.words("Ready"));
        let writes = world.writes.len();
        for _ in 0..3 {
            let _ = world.reconcile(true);
        }
        assert_eq!(&world.writes[writes..], Vec::<String>::new(), "seed {seed}: it rests, after {told:?}");
    }
}
