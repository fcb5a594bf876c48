//! Puts image config and request together: what runs, with which environment, where, as whom.
//! The rules are Docker's. Pure: the home directory, which needs the image's passwd, is added at start.

use strata_types::ContainerConfig;

use crate::{
    error::Error,
    spec::{Process, Spec},
};

/// The PATH of a container whose image sets none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Puts the image's config and the request together.
///
/// A request that sets an entry point drops the image's command too, as `docker run --entrypoint` does.
pub fn merge(image: &ContainerConfig, spec: &Spec, hostname: &str) -> Result<Process, Error> {
    let (entry_point, default_command) = match &spec.entry_point {
        Some(entry_point) => (entry_point.as_slice(), &[][..]),
        None => (image.entrypoint.as_deref().unwrap_or_default(), image.cmd.as_deref().unwrap_or_default()),
    };
    let command = if spec.command.is_empty() { default_command } else { &spec.command };
    let args: Vec<String> = entry_point.iter().chain(command).cloned().collect();
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::NoCommand);
    }
    let first_of = |values: [&str; 3]| values.into_iter().find(|value| !value.is_empty()).unwrap_or("").to_owned();
    let working_directory = first_of([&spec.working_directory, &image.working_dir, "/"]);
    Ok(Process {
        args,
        env: environment(image, spec, hostname),
        working_directory: absolute(&working_directory),
        user: first_of([&spec.user, &image.user, ""]),
        stop_signal: first_of([&spec.stop_signal, image.stop_signal.as_deref().unwrap_or(""), "SIGTERM"]),
    })
}

/// Docker's order: PATH, HOSTNAME, TERM, then the image's, then the request's, each replacing what was there.
fn environment(image: &ContainerConfig, spec: &Spec, hostname: &str) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if spec.has_terminal {
        env.push("TERM=xterm".to_owned());
    }
    overlay(&mut env, &image.env);
    overlay(&mut env, &spec.env);
    env
}

/// Applies KEY=VALUE (set, in its old place if it had one) and KEY (remove) to an environment.
pub fn overlay(env: &mut Vec<String>, changes: &[String]) {
    for change in changes {
        match change.split_once('=') {
            None => env.retain(|pair| name_of(pair) != change),
            Some((name, _)) => match env.iter_mut().find(|pair| name_of(pair) == name) {
                Some(pair) => pair.clone_from(change),
                None => env.push(change.clone()),
            },
        }
    }
}

/// Adds HOME where the environment has none: passwd's entry for the user.
pub fn add_home(env: &mut Vec<String>, home: &str) {
    if !env.iter().any(|pair| name_of(pair) == "HOME") {
        env.push(format!("HOME={home}"));
    }
}

fn name_of(pair: &str) -> &str {
    pair.split('=').next().unwrap_or(pair)
}

/// A relative directory counts from the root, as in Docker.
fn absolute(directory: &str) -> String {
    if directory.starts_with('/') { directory.to_owned() } else { format!("/{directory}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::spec;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| text.to_string()).collect()
    }

    fn image(entrypoint: Option<&[&str]>, cmd: Option<&[&str]>) -> ContainerConfig {
        ContainerConfig { entrypoint: entrypoint.map(strings), cmd: cmd.map(strings), ..Default::default() }
    }

    #[test]
    fn entry_point_and_command_follow_docker() {
        type Words = &'static [&'static str];
        type Row = (Option<Words>, Option<Words>, Option<Words>, Words, Words);
        let table: &[Row] = &[
            // image entry point, image command, request entry point, request command, what runs
            (None, Some(&["sh"]), None, &[], &["sh"]),
            (None, Some(&["sh"]), None, &["ls", "-l"], &["ls", "-l"]),
            (Some(&["/init"]), Some(&["sh"]), None, &[], &["/init", "sh"]),
            (Some(&["/init"]), Some(&["sh"]), None, &["ls"], &["/init", "ls"]),
            (Some(&["/init"]), Some(&["sh"]), Some(&["/bin/x"]), &[], &["/bin/x"]),
            (Some(&["/init"]), Some(&["sh"]), Some(&["/bin/x"]), &["y"], &["/bin/x", "y"]),
            (Some(&["/init"]), Some(&["sh"]), Some(&[]), &["y"], &["y"]),
        ];
        for (entrypoint, cmd, asked_entry_point, asked, expected) in table {
            let mut spec = spec();
            spec.entry_point = asked_entry_point.map(strings);
            spec.command = strings(asked);

            let process = merge(&image(*entrypoint, *cmd), &spec, "h").unwrap();

            assert_eq!(process.args, strings(expected));
        }
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        let mut spec = spec();
        spec.command.clear();
        assert!(matches!(merge(&image(None, None), &spec, "h"), Err(Error::NoCommand)));
        assert!(matches!(merge(&image(None, Some(&[""])), &spec, "h"), Err(Error::NoCommand)));
        spec.entry_point = Some(vec![]);
        assert!(matches!(merge(&image(Some(&["/init"]), Some(&["x"])), &spec, "h"), Err(Error::NoCommand)));
    }

    #[test]
    fn environment_is_default_then_image_then_request() {
        let mut spec = spec();
        spec.env = strings(&["B=request", "C=", "GONE", "HOSTNAME=mine"]);
        spec.has_terminal = true;
        let config = ContainerConfig {
            env: strings(&["A=image", "B=image", "GONE=x", "PATH=/bin"]),
            cmd: Some(strings(&["x"])),
            ..Default::default()
        };

        let mut env = merge(&config, &spec, "h").unwrap().env;
        add_home(&mut env, "/root");

        assert_eq!(
            env,
            strings(&["PATH=/bin", "HOSTNAME=mine", "TERM=xterm", "A=image", "B=request", "C=", "HOME=/root"])
        );
        add_home(&mut env, "/other");
        assert!(!env.contains(&"HOME=/other".to_owned()));
    }

    #[test]
    fn request_wins_over_image_for_directory_user_and_signal() {
        let config = ContainerConfig {
            cmd: Some(strings(&["x"])),
            working_dir: "srv".into(),
            user: "www".into(),
            stop_signal: Some("SIGQUIT".into()),
            ..Default::default()
        };
        let mut spec = spec();
        let from_image = merge(&config, &spec, "h").unwrap();
        spec.working_directory = "/app".into();
        spec.user = "0".into();
        spec.stop_signal = "INT".into();
        let from_request = merge(&config, &spec, "h").unwrap();

        assert_eq!(
            (&*from_image.working_directory, &*from_image.user, &*from_image.stop_signal),
            ("/srv", "www", "SIGQUIT")
        );
        assert_eq!(
            (&*from_request.working_directory, &*from_request.user, &*from_request.stop_signal),
            ("/app", "0", "INT")
        );
        assert_eq!(
            merge(&image(None, Some(&["x"])), &crate::record::tests::spec(), "h").unwrap().stop_signal,
            "SIGTERM"
        );
    }
}
