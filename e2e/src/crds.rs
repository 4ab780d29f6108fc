//! The kinds of other controllers, as far as sessions look at them: installed once, and left for the next scenario.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::waiting::eventually;

const ALL: &[&str] = &[
    include_str!("../crds/applications.json"),
    include_str!("../crds/applicationsets.json"),
    include_str!("../crds/appprojects.json"),
    include_str!("../crds/rollouts.json"),
    include_str!("../crds/kustomizations.json"),
    include_str!("../crds/helmreleases.json"),
    include_str!("../crds/scaledobjects.json"),
    include_str!("../crds/verticalpodautoscalers.json"),
    include_str!("../crds/shops.json"),
];

/// Sees to it that they are there and served. What is there already, a real installation's, stays.
pub async fn install(client: Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    for text in ALL {
        let definition: CustomResourceDefinition = serde_json::from_str(text).expect("a definition");
        let name = definition.metadata.name.clone().expect("it has a name");
        match definitions.create(&PostParams::default(), &definition).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            created => drop(created.unwrap_or_else(|error| panic!("{name}: {error}"))),
        }
        eventually("the kind is served", async || {
            let found = definitions.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
            let is_served = |condition: &_| -> bool {
                let condition: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionCondition = condition;
                condition.type_ == "Established" && condition.status == "True"
            };
            if conditions.iter().any(is_served) { Ok(()) } else { Err(format!("{name} is not yet")) }
        })
        .await;
    }
}
