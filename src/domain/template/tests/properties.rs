//! Over a hundred thousand parameter values: the Job differs from the template only at its placeholders,
//! and a container is given exactly the bytes that the request held.

use super::*;

const ROUNDS: usize = 100_000;
/// Values of this many bytes come now and then.
const LARGE: usize = 64 << 10;

const TEMPLATE: &str = r#"
name: t
parameters:
  type: object
  required: [a, b]
  properties: {a: {}, b: {type: string}}
job:
  apiVersion: batch/v1
  kind: Job
  metadata: {annotations: {a: "{{ params.a }}", plain: "$(A) $$ {"}}
  spec:
    template:
      spec:
        containers:
        - name: w
          image: i
          command: [sh, -c, "echo $(SECRET) $$x"]
          args: ["{{ params.a }}", "--b={{ params.b }}", "$(SECRET):{{ params.b }}$${{params.b}}$", "{{ params.b }}{{ params.a }}"]
          env: [{name: SECRET, value: "s"}, {name: A, value: "{{ params.a }}"}]
          workingDir: "{{ params.b }}"
          livenessProbe: {exec: {command: [test, "{{ params.b }}"]}}
          lifecycle: {preStop: {exec: {command: [test, "{{ params.b }}"]}}}
"#;

/// SplitMix64: the same values in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 32] = [
            "$",
            "$$",
            "$(",
            ")",
            "$(SECRET)",
            "$$(SECRET)",
            "${SECRET}",
            "{{",
            "}}",
            "{{ key }}",
            "{{ params.a }}",
            "{",
            "}",
            "\"",
            "'",
            "\\",
            "\n",
            "\r\n",
            "\t",
            "\u{1b}[31m",
            "\u{7f}",
            "\u{1}",
            "`id`",
            "; rm -rf /",
            ": ",
            "- name: x",
            "#",
            "é",
            "日本",
            "\u{202e}",
            "\u{10ffff}",
            "a",
        ];
        let length = if self.below(2000) == 0 { LARGE } else { self.below(12) };
        let mut text = String::new();
        for _ in 0..length {
            text.push_str(PIECES[self.below(PIECES.len())]);
            if text.len() >= LARGE {
                break;
            }
        }
        text
    }

    fn value(&mut self) -> Value {
        match self.below(8) {
            0 => json!(self.below(1000)),
            1 => json!(self.below(2) == 0),
            2 => json!([self.text(), self.text()]),
            3 => json!({"k": self.text()}),
            4 => json!(0.5),
            _ => json!(self.text()),
        }
    }
}

/// What the kubelet makes of a container's text, after the documentation of `command` and `args`: "Variable
/// references $(VAR_NAME) are expanded using the container's environment. If a variable cannot be resolved,
/// the reference in the input string will be unchanged. Double $$ are reduced to a single $." A reference that
/// is not closed is text; a `$` before anything else is one too.
fn kubelet(text: &str, environment: &[(&str, &str)]) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match environment.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The places at which two documents differ.
fn differences(left: &Value, right: &Value, pointer: &str, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) if left.keys().eq(right.keys()) => {
            left.iter().for_each(|(name, member)| differences(member, &right[name], &child(pointer, name), found));
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs.for_each(|(index, (left, right))| {
                differences(left, right, &child(pointer, &index.to_string()), found)
            });
        }
        _ if left == right => {}
        _ => found.push(pointer.to_owned()),
    }
}

#[test]
fn a_container_is_given_exactly_the_bytes_of_the_request_and_the_job_is_otherwise_the_template() {
    let template = load(TEMPLATE).unwrap();
    let mut random = Random(20_261_124);
    let pod = "/spec/template/spec/containers/0";
    let (probe, hook) = ("livenessProbe/exec/command/1", "lifecycle/preStop/exec/command/1");
    let filled = ["args/0", "args/1", "args/2", "args/3", "env/1/value", "workingDir", probe, hook];
    let mut places: Vec<_> = filled.map(|at| format!("{pod}/{at}")).into();
    places.push("/metadata/annotations/a".into());
    for round in 0..ROUNDS {
        let (a, b) = (random.value(), random.text());
        let params = json!({"a": a, "b": b});
        let job = template.body.render(&Scope { params: &params, request_id: "r", key: "k" }).unwrap();
        let mut found = Vec::new();
        differences(&template.body.job, &job, "", &mut found);
        assert!(found.iter().all(|place| places.contains(place)), "round {round}: {found:?}");

        let a = as_text(&params["a"]);
        let environment = [("SECRET", "s"), ("A", a.as_str())];
        let given = |at: &str| kubelet(job.pointer(&format!("{pod}/{at}")).unwrap().as_str().unwrap(), &environment);
        assert_eq!(given("args/0"), a, "round {round}");
        assert_eq!(given("args/1"), format!("--b={b}"), "round {round}");
        assert_eq!(given("args/2"), format!("s:{b}${b}$"), "round {round}");
        assert_eq!(given("args/3"), format!("{b}{a}"), "round {round}");
        assert_eq!((given("env/1/value"), given(probe)), (a.clone(), b.clone()), "round {round}");
        let container = job.pointer(pod).unwrap();
        assert_eq!(container.pointer(&format!("/{hook}")), Some(&json!(b)), "the kubelet runs it as it stands");
        assert_eq!((&container["workingDir"], &job["metadata"]["annotations"]["a"]), (&json!(b), &json!(a)));
    }
}

#[test]
fn the_model_of_the_kubelet_follows_its_documentation() {
    let environment = [("A", "1")];
    for (text, expanded) in
        [("$(A)", "1"), ("$$(A)", "$(A)"), ("$$$(A)", "$1"), ("$(B)", "$(B)"), ("$(A", "$(A"), ("$A $", "$A $")]
    {
        assert_eq!(kubelet(text, &environment), expanded, "{text}");
    }
}
