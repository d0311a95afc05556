//! A real API server without nodes.

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use odoo_ai_tests::{ApiServer, apply_yaml};

const CONFIG: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: seen}
data: {answer: '42'}
";

#[tokio::test]
async fn objects_are_stored() -> Result<()> {
    let client = ApiServer::shared().await?.client().await?;
    apply_yaml(&client, "default", CONFIG).await?;
    let seen = Api::<ConfigMap>::namespaced(client, "default").get("seen").await?;
    assert_eq!(seen.data.unwrap_or_default().get("answer").map(String::as_str), Some("42"));
    Ok(())
}
