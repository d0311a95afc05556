//! FeatureFlags on a real cluster with the real application. The checks of the core tier are `core`; the others are the
//! full tier, `hack/test flags`.

pub(crate) mod core;
mod faults;
mod look;
mod many;
mod off;

use anyhow::Result;

use crate::checks::Checks;
use crate::turns::with_room;

/// What is wrong with the application is told, costs nothing, and ends with it.
#[tokio::test]
#[ignore = "full tier"]
async fn a_sick_application_is_told_and_left_alone() -> Result<()> {
    with_room("sick", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("sick"));
        turns.busy().await;
        checks.need("the sample's flags with the first install", faults::installs(room)).await?;
        for (fault, reason) in faults::FAULTS {
            checks.check(&format!("the rules API is {fault}"), faults::is_told(room, fault, reason)).await;
        }
        checks.check("another pod answers too", faults::wrong_pod(room)).await;
        checks.check("the key is another", faults::wrong_key(room)).await;
        for fault in ["500 PUT", "422 PUT", "lost PUT"] {
            checks.check(&format!("a change meets {fault}"), faults::change_meets(room, fault)).await;
        }
        for fault in ["503 POST", "lost POST"] {
            checks.check(&format!("a new rule meets {fault}"), faults::new_meets(room, fault)).await;
        }
        checks.check("off while the API is down", off::is_disabled_in_the_database(room)).await;
        checks.check("on again while the Job waits", off::is_not_disabled_after_all(room)).await;
        checks.check("off without an application", off::is_disabled_without_an_application(room)).await;
        // While its log is still there.
        checks.check("no secret is shown", crate::safety::no_secret_is_shown(room)).await;
        turns.alone().await;
        checks.check("100 flags meet a sick API", many::meet_a_sick_application(room)).await;
        checks.check("they are added once, and rest", many::are_added_once_and_rest(room)).await;
        checks.check("the operator is killed meanwhile", many::survive_the_operator(room, cluster)).await;
        checks.finish()
    })
    .await
}
