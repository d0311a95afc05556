//! The scenarios, as data. Each is swept: a crash before and after every request that changes
//! something, lost answers, caches that lag, events that are lost.

use odoo_ai_crds::conditions::annotations;
use serde_json::json;

use crate::backups::{BACK_UP, VERIFY};
use crate::world::{BACKUP, BACKUPS, Ending, FLAGS, RESTORES, World};

/// One thing that somebody does, and what is waited for afterwards.
pub(crate) struct Act {
    pub(crate) edit: fn(&mut World),
    pub(crate) until: fn(&World) -> bool,
}

/// Where a scenario begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// A namespace with the user's Secrets and a new stack.
    Nothing,
    /// A first install that stands at this step.
    At(&'static str),
    /// A stack that is Ready and at rest.
    Settled,
}

/// A scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    pub(crate) script: &'static [Act],
}

/// Tag of the second release.
const SECOND: &str = "odoo-ai-platform/ai-service:1.1.0";

/// Nothing that anybody does.
pub(crate) const INSTALL: &[Act] = &[Act { edit: |_| {}, until: ready }];

/// All of them.
pub(crate) const ALL: [Scenario; 23] = [
    Scenario { name: "first install", start: Start::Nothing, script: INSTALL },
    Scenario {
        name: "a first install from a backup",
        start: Start::At("Database"),
        script: &[Act {
            edit: |world| {
                let claim = json!({"metadata": {"name": "old"}, "spec": {}});
                world.store.create("persistentvolumeclaims", "somebody", claim).expect("a new claim");
                let storage = json!({"persistentVolumeClaim": {"claimName": "old"}});
                let source = json!({"storage": storage, "file": "backup.sql.gz"});
                world.edit(|spec| spec["database"]["managed"]["bootstrap"] = json!({"restoreFrom": source}));
                world.endings.push_back(Ending::Fails);
            },
            until: ready,
        }],
    },
    Scenario {
        name: "another image and another secret",
        start: Start::Settled,
        script: &[Act {
            edit: |world| {
                world.edit(|spec| spec["images"]["aiService"] = json!(SECOND));
                world.edit_secret("anthropic", "apiKey", "another");
            },
            until: ready,
        }],
    },
    Scenario {
        name: "scale",
        start: Start::Settled,
        script: &[
            Act { edit: |world| world.edit(|spec| spec["worker"]["replicas"] = json!(3)), until: ready },
            Act { edit: |world| world.edit(|spec| spec["worker"]["replicas"] = json!(0)), until: ready },
        ],
    },
    Scenario {
        name: "a changed password",
        start: Start::Settled,
        script: &[Act {
            edit: |world| world.edit_secret("odoo-ai-database-credentials", "password", "another"),
            until: |world| ready(world) && taken_up(world),
        }],
    },
    Scenario {
        name: "a revision beyond the limit",
        start: Start::Settled,
        script: &[Act {
            edit: |world| {
                world.edit(|spec| {
                    spec["rollout"]["revisionHistoryLimit"] = json!(1);
                    spec["logLevel"] = json!("Debug");
                });
            },
            until: |world| ready(world) && stored(world) == 1,
        }],
    },
    Scenario {
        name: "the rules API refuses at first",
        start: Start::At("RulesGate"),
        script: &[Act { edit: |world| world.rules.refusals = 2, until: ready }],
    },
    Scenario {
        name: "suspend, change, resume",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| {
                    world.edit(|spec| {
                        spec["suspend"] = json!(true);
                        spec["logLevel"] = json!("Debug");
                    });
                },
                until: |world| world.condition("Ready") == ("Unknown".to_owned(), "Suspended".to_owned()),
            },
            Act { edit: |world| world.edit(|spec| spec["suspend"] = json!(false)), until: ready },
        ],
    },
    Scenario {
        name: "a Job that fails is tried again",
        start: Start::At("Migration"),
        script: &[Act { edit: |world| world.endings.extend([Ending::Fails, Ending::Fails]), until: ready }],
    },
    Scenario {
        name: "a Job that nobody wants any more",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| {
                    world.endings.push_back(Ending::Runs);
                    world.edit(|spec| spec["images"]["aiService"] = json!("odoo-ai-platform/ai-service:1.0.9"));
                },
                until: |world| at(world, "Migration") && world.store.all("jobs").count() == 3,
            },
            Act {
                edit: |world| {
                    world.edit(|spec| spec["images"]["aiService"] = json!(SECOND));
                },
                until: |world| {
                    let migrations = || world.store.all("jobs").filter(|(name, _)| name.contains("-migrate-"));
                    let image = |image: &str| migrations().any(|(_, job)| job.to_string().contains(image));
                    at(world, "Migration") && image(SECOND) && !image("1.0.9")
                },
            },
            Act { edit: |world| world.endings.clear(), until: ready },
        ],
    },
    Scenario {
        name: "a backup before a migration",
        start: Start::Settled,
        script: &[Act {
            edit: |world| {
                world.create_backup(&json!({}));
                world.edit(|spec| {
                    spec["migrations"] = json!({"backup": "Required", "backupRef": {"name": BACKUP}});
                    spec["images"]["aiService"] = json!(SECOND);
                });
            },
            until: ready,
        }],
    },
    Scenario {
        name: "a version that is taken back",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| world.edit(|spec| spec["images"]["aiService"] = json!("ai-service:crash")),
                until: |world| world.condition("Ready") == ("False".to_owned(), "RolledBack".to_owned()),
            },
            Act { edit: |world| world.edit(|spec| spec["images"]["aiService"] = json!(SECOND)), until: ready },
        ],
    },
    Scenario {
        name: "a check that fails, and one that passes",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| check(world, "smoke:bad", "Error"),
                until: |world| world.condition("Ready") == ("False".to_owned(), "RolledBack".to_owned()),
            },
            Act { edit: |world| check(world, "smoke:1", "Warning"), until: ready },
        ],
    },
    Scenario {
        name: "an approval",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| {
                    world.edit(|spec| {
                        spec["rollout"]["approval"] = json!("Manual");
                        spec["images"]["aiService"] = json!(SECOND);
                    });
                },
                until: |world| world.condition("AwaitingApproval").0 == "True",
            },
            Act {
                edit: |world| {
                    let target = world.stack()["status"]["updateRevision"].clone();
                    world.store.edit("odooaistacks", "odoo-ai", |stack| {
                        stack["metadata"]["annotations"] =
                            json!({"odoo-ai.atmatasolutions.com/approved-revision": target});
                    });
                },
                until: ready,
            },
        ],
    },
    Scenario {
        name: "routes that become others, and go",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| {
                    routes(world, &json!({"dashboard": {"host": "ai.example.com"}, "tls": {"secretName": "tls"}}));
                },
                until: |world| ready(world) && has_routes(world, [2, 2, 0]),
            },
            Act {
                edit: |world| routes(world, &json!({"dashboard": {"host": "ai.example.com"}, "controller": "Ingress"})),
                until: |world| ready(world) && has_routes(world, [0, 0, 1]),
            },
            Act {
                edit: |world| routes(world, &json!(null)),
                until: |world| ready(world) && has_routes(world, [0, 0, 0]),
            },
        ],
    },
    Scenario {
        name: "backups that are asked for, scheduled and verified",
        start: Start::Settled,
        script: &[
            Act { edit: |world| world.create_backup(&json!({})), until: catalogue_is_read },
            Act { edit: |world| world.ask_backup(BACK_UP, "one"), until: |world| has_backups(world, 1, "Succeeded") },
            Act { edit: |world| world.schedule("nightly-backup"), until: |world| has_backups(world, 2, "Succeeded") },
            Act {
                edit: |world| world.ask_backup(VERIFY, "one"),
                until: |world| world.backup()["lastVerified"]["id"] == "artifact-2",
            },
        ],
    },
    Scenario {
        name: "backups that fail, and a Job that somebody deletes",
        start: Start::Settled,
        script: &[
            Act { edit: |world| world.create_backup(&json!({})), until: catalogue_is_read },
            Act {
                edit: |world| {
                    world.endings.push_back(Ending::Fails);
                    world.ask_backup(BACK_UP, "one");
                },
                until: |world| has_backups(world, 0, "Failed"),
            },
            Act {
                edit: |world| {
                    world.endings.push_back(Ending::Runs);
                    world.ask_backup(BACK_UP, "two");
                },
                until: |world| has_backups(world, 0, "Running"),
            },
            Act {
                edit: |world| {
                    world.endings.clear();
                    let runs = |job: &serde_json::Value| job["status"]["conditions"].is_null();
                    let found = world.store.all("jobs").find(|(name, job)| name.contains("-run-") && runs(job));
                    let name = found.map(|(name, _)| name.to_owned()).expect("it runs");
                    world.store.delete("jobs", &name, &json!({})).expect("it goes");
                },
                until: |world| {
                    has_backups(world, 0, "Failed")
                        && world.backup()["consecutiveFailures"] == 2
                        && catalogue_is_read(world)
                },
            },
            Act { edit: |world| world.ask_backup(BACK_UP, "three"), until: |world| has_backups(world, 1, "Succeeded") },
        ],
    },
    Scenario {
        name: "backups in another place",
        start: Start::Settled,
        script: &[
            Act { edit: |world| world.create_backup(&json!({})), until: catalogue_is_read },
            Act { edit: |world| world.ask_backup(BACK_UP, "one"), until: |world| has_backups(world, 1, "Succeeded") },
            Act {
                edit: |world| {
                    let claim = json!({"metadata": {"name": "another"}, "spec": {}});
                    world.store.create("persistentvolumeclaims", "somebody", claim).expect("a new claim");
                    world.store.edit(BACKUPS, BACKUP, |backup| {
                        backup["spec"]["storage"] = json!({"persistentVolumeClaim": {"claimName": "another"}});
                    });
                },
                until: |world| catalogue_is_read(world) && world.backup()["lastSuccess"].is_null(),
            },
            Act { edit: |world| world.ask_backup(BACK_UP, "two"), until: |world| has_backups(world, 1, "Succeeded") },
        ],
    },
    Scenario {
        name: "backups that go with their Backup",
        start: Start::Settled,
        script: &[
            Act { edit: |world| world.create_backup(&json!({"deletionPolicy": "Delete"})), until: catalogue_is_read },
            Act { edit: |world| world.ask_backup(BACK_UP, "one"), until: |world| has_backups(world, 1, "Succeeded") },
            Act {
                edit: |world| {
                    world.endings.push_back(Ending::Runs);
                    world.ask_backup(BACK_UP, "two");
                },
                until: |world| has_backups(world, 1, "Running"),
            },
            Act {
                edit: |world| {
                    world.endings = [Ending::Runs, Ending::Fails].into();
                    world.store.delete(BACKUPS, BACKUP, &json!({})).expect("it goes");
                },
                until: |world| world.store.all("jobs").any(|(name, _)| name.contains("-purge-")),
            },
            Act {
                edit: |world| world.endings = [Ending::Fails].into(),
                until: |world| world.store.get(BACKUPS, BACKUP).is_none(),
            },
        ],
    },
    Scenario {
        name: "flags that take a rule over, add one, and go",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| {
                    world.create_flag("known", "rule 1", &json!({"state": "Enabled"}));
                    world.create_flag(
                        "new",
                        "another",
                        &json!({"adoptionPolicy": "Refuse", "deletionPolicy": "Delete"}),
                    );
                    world.create_flag("rival", "rule 1", &json!({"deletionPolicy": "Orphan"}));
                },
                until: |world| {
                    let rival = world.store.get(FLAGS, "rival").is_some_and(|it| it.to_string().contains("Conflict"));
                    // Of the two seeded ones, one is nobody's.
                    synced(world, "known") && synced(world, "new") && rival && declared(world) == 2
                },
            },
            Act {
                edit: |world| {
                    world.store.edit(FLAGS, "known", |flag| flag["spec"]["config"] = json!({"limit": 5}));
                    world.store.delete(FLAGS, "new", &json!({})).expect("it goes");
                },
                until: |world| synced(world, "known") && world.store.get(FLAGS, "new").is_none(),
            },
            Act {
                edit: |world| world.store.delete(FLAGS, "known", &json!({})).expect("it goes"),
                until: |world| {
                    world.store.get(FLAGS, "known").is_none() && synced(world, "rival") && declared(world) == 1
                },
            },
            Act {
                edit: |world| world.store.delete(FLAGS, "rival", &json!({})).expect("it goes"),
                until: |world| declared(world) == 0,
            },
        ],
    },
    Scenario {
        name: "a rule that is disabled while the application is away",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| world.create_flag("known", "rule 1", &json!({"state": "Enabled"})),
                until: |world| synced(world, "known"),
            },
            Act {
                edit: |world| {
                    world.rules.refusals = usize::MAX;
                    world.store.edit(FLAGS, "known", |flag| {
                        flag["spec"]["state"] = json!("Disabled");
                        flag["metadata"]["annotations"] = json!({annotations::DISABLE_REQUESTED_AT: "now"});
                    });
                },
                until: |world| {
                    let flag = world.store.get(FLAGS, "known").expect("the flag");
                    flag["status"]["disableRequest"]["state"] == "Succeeded"
                },
            },
            Act { edit: |world| world.rules.refusals = 0, until: |world| synced(world, "known") },
        ],
    },
    Scenario {
        name: "a backup that is restored beside, and a restore that is given up",
        start: Start::Settled,
        script: &[
            Act { edit: |world| world.create_backup(&json!({})), until: catalogue_is_read },
            Act { edit: |world| world.ask_backup(BACK_UP, "one"), until: |world| has_backups(world, 1, "Succeeded") },
            Act {
                edit: |world| {
                    world.endings.push_back(Ending::Fails);
                    world.create_restore("look");
                },
                until: |world| world.restored("look") == "Restored" && world.databases.len() == 1,
            },
            Act {
                edit: |world| {
                    world.endings.push_back(Ending::Runs);
                    world.create_restore("other");
                },
                until: |world| world.restored("other") == "Restoring",
            },
            Act {
                edit: |world| {
                    world.endings.clear();
                    world.store.delete(RESTORES, "other", &json!({})).expect("it goes");
                },
                until: |world| world.store.get(RESTORES, "other").is_none() && world.databases.len() == 1,
            },
        ],
    },
    Scenario {
        name: "a backup that takes the live database's place, and the way back",
        start: Start::Settled,
        script: &[
            Act {
                edit: |world| {
                    world
                        .edit(|spec| spec["migrations"] = json!({"backup": "Required", "backupRef": {"name": BACKUP}}));
                    world.create_backup(&json!({}));
                },
                until: catalogue_is_read,
            },
            Act { edit: |world| world.ask_backup(BACK_UP, "one"), until: |world| has_backups(world, 1, "Succeeded") },
            Act {
                edit: |world| world.replace_database("back"),
                until: |world| world.restored("back") == "Restored" && world.live() == "1/3" && ready(world),
            },
            Act {
                edit: |world| {
                    world.store.edit(RESTORES, "back", |restore| {
                        restore["metadata"]["annotations"] = json!({annotations::UNDO_REQUESTED_AT: "now"});
                    });
                },
                until: |world| world.restored("back") == "Undone" && world.live() == "1/2" && ready(world),
            },
        ],
    },
];

/// Rules that flags declare, as the stack says it.
fn declared(world: &World) -> i64 {
    world.stack()["status"]["rules"]["declared"].as_i64().unwrap_or_default()
}

/// The flag's rule is as its present spec declares it.
fn synced(world: &World, name: &str) -> bool {
    let flag = world.store.get(FLAGS, name).expect("the flag");
    let conditions = flag["status"]["conditions"].as_array().into_iter().flatten();
    let mut synced = conditions.filter(|it| it["type"] == "Synced" && it["status"] == "True");
    synced.any(|it| it["observedGeneration"] == flag["metadata"]["generation"])
}

/// The Backup knows what is in its storage.
fn catalogue_is_read(world: &World) -> bool {
    let catalogue = &world.backup()["catalogue"];
    catalogue["readAt"].is_string() && catalogue["staleSince"].is_null()
}

/// The status tells of so many, and how the last run stands; every request was answered.
fn has_backups(world: &World, count: usize, last: &str) -> bool {
    let status = world.backup();
    let annotations = &world.store.get(BACKUPS, BACKUP).expect("the Backup")["metadata"]["annotations"];
    let answered = annotations[BACK_UP] == status["lastHandled"]["backupRequestedAt"];
    let told = status["artifacts"].as_array().map_or(0, Vec::len);
    answered && told == count && status["lastAttempt"]["result"] == last
}

fn routes(world: &mut World, ingress: &serde_json::Value) {
    world.edit(|spec| spec["ingress"] = ingress.clone());
}

/// So many of each kind of which routes consist.
fn has_routes(world: &World, wanted: [usize; 3]) -> bool {
    ["ingressroutes", "middlewares", "ingresses"].map(|plural| world.store.all(plural).count()) == wanted
}

/// Another revision, with a check of this image.
fn check(world: &mut World, image: &str, log_level: &str) {
    world.edit(|spec| {
        spec["rollout"]["checks"] = json!([{"name": "smoke", "image": image}]);
        spec["logLevel"] = json!(log_level);
    });
}

/// Ready for its present spec.
pub(crate) fn ready(world: &World) -> bool {
    let (spec, status) = (&world.stack()["metadata"]["generation"], &world.stack()["status"]);
    let rolled = status["updateRevision"] == status["currentRevision"];
    world.condition("Ready").0 == "True" && status["observedGeneration"] == *spec && rolled
}

/// Beat, the last one, was restarted.
fn taken_up(world: &World) -> bool {
    let beat = world.store.get("statefulsets", "odoo-ai-beat").map(ToString::to_string).unwrap_or_default();
    beat.contains("\"odoo-ai.atmatasolutions.com/credentials-generation\":\"2\"")
}

/// Revisions of the application that are kept.
fn stored(world: &World) -> usize {
    let of_application =
        |object: &&serde_json::Value| object["metadata"]["labels"]["app.kubernetes.io/component"] == "application";
    world.store.all("controllerrevisions").map(|(_, object)| object).filter(of_application).count()
}

/// The rollout stands at `step`.
pub(crate) fn at(world: &World, step: &str) -> bool {
    world.stack()["status"]["rollout"]["step"] == step
}
