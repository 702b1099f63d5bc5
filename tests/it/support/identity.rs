//! An identity of a dispatcher's own in the cluster: a service account with the Roles of the shipped manifest and no
//! other right, known by a token in a file.

use std::path::PathBuf;

use kube::config::Kubeconfig;
use serde_json::json;

use super::World;
use super::stack::{STACK, root};

pub(crate) struct Identity {
    namespace: String,
    kubeconfig: PathBuf,
    token: PathBuf,
}

impl Identity {
    pub(crate) fn create(world: &World) -> Self {
        let namespace = world.name.clone();
        let file = |kind: &str| STACK.dir.join("log").join(format!("{namespace}-identity.{kind}"));
        let identity = Self { kubeconfig: file("kubeconfig"), token: file("token"), namespace };
        identity.grant();
        identity.renew_token("first");
        identity.write_kubeconfig();
        identity
    }

    /// The environment of a dispatcher that is known by it.
    pub(crate) fn environment(&self) -> [(&str, &str); 1] {
        [("KUBECONFIG", self.kubeconfig.to_str().expect("a path that is text"))]
    }

    /// What the API server calls it.
    pub(crate) fn user(&self) -> String {
        format!("system:serviceaccount:{}:jobquay", self.namespace)
    }

    /// Gives it the rights of the manifest.
    pub(crate) fn grant(&self) {
        self.apply(&manifest());
    }

    /// The same rights less those to one resource.
    pub(crate) fn grant_without(&self, resource: &str) {
        let all = manifest();
        let less = all.replace(&format!("resources: [{resource}]"), "resources: [none]");
        assert_ne!(less, all, "the manifest has a rule for {resource}");
        self.apply(&less);
    }

    /// Takes all rights away.
    pub(crate) fn revoke(&self) {
        STACK.kubectl(&["-n", &self.namespace, "delete", "rolebinding", "jobquay", "jobquay-members"], "");
    }

    /// Writes a token into the file that holds until the Secret `name` is deleted.
    pub(crate) fn renew_token(&self, name: &str) {
        let namespace = self.namespace.as_str();
        STACK.kubectl(&["-n", namespace, "create", "secret", "generic", name], "");
        let bound = ["--bound-object-kind=Secret", &format!("--bound-object-name={name}")];
        let words = ["-n", namespace, "create", "token", "jobquay", bound[0], bound[1]];
        let token = STACK.kubectl(&words, "");
        // As a kubelet does it: nobody reads half a token.
        let new = self.token.with_extension("new");
        std::fs::write(&new, token.trim()).expect("a file for the token");
        std::fs::rename(&new, &self.token).expect("the token in its place");
    }

    /// From then on the token that is bound to it is worth nothing.
    pub(crate) fn end_token(&self, name: &str) {
        STACK.kubectl(&["-n", &self.namespace, "delete", "secret", name], "");
    }

    fn apply(&self, manifest: &str) {
        let here = manifest
            .replace("namespace: jobquay-work", &format!("namespace: {}", self.namespace))
            .replace("namespace: jobquay\n", &format!("namespace: {}\n", self.namespace))
            .replace("namespace: jobquay}", &format!("namespace: {}}}", self.namespace));
        STACK.kubectl(&["apply", "-f", "-"], &here);
    }

    fn write_kubeconfig(&self) {
        let kubeconfig = Kubeconfig::read_from(STACK.value("KUBECONFIG")).expect("the stack's kubeconfig");
        let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.clone()).expect("a cluster");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "own",
            "clusters": [{"name": "own", "cluster": {
                "server": cluster.server, "certificate-authority-data": cluster.certificate_authority_data,
            }}],
            "contexts": [{"name": "own", "context": {"cluster": "own", "user": "own"}}],
            "users": [{"name": "own", "user": {"tokenFile": self.token}}],
        });
        std::fs::write(&self.kubeconfig, config.to_string()).expect("a kubeconfig");
    }
}

fn manifest() -> String {
    std::fs::read_to_string(root().join("deploy/kubernetes/access.yaml")).expect("the shipped manifest")
}
