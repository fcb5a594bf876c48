//! Docker's command line: what a misspelt command or flag is told from, and what the table of README.md is made of. Of docker
//! 29.8, without Swarm.

#[cfg(test)]
mod table;

/// Commands, and their flags beside `--help`.
pub const COMMANDS: &[(&str, &str)] = &[
    (
        "",
        "--config -c --context -D --debug -H --host -l --log-level --tls --tlscacert --tlscert --tlskey --tlsverify -v --version",
    ),
    ("builder build", BUILD),
    ("builder create", ""),
    ("builder du", "--filter --verbose"),
    ("builder history", ""),
    ("builder imagetools", ""),
    ("builder ls", ""),
    ("builder prune", "-a --all --filter -f --force --keep-storage"),
    ("builder use", ""),
    ("checkpoint create", ""),
    ("checkpoint ls", ""),
    ("checkpoint rm", ""),
    ("compose", ""),
    ("container attach", "--detach-keys --no-stdin --sig-proxy"),
    ("container commit", "-a --author -c --change -m --message --no-pause -p --pause"),
    ("container cp", "-a --archive -L --follow-link -q --quiet"),
    ("container create", CREATE),
    ("container diff", ""),
    (
        "container exec",
        "-d --detach --detach-keys -e --env --env-file -i --interactive --privileged -t --tty -u --user -w --workdir",
    ),
    ("container export", "-o --output"),
    ("container inspect", "-f --format -s --size"),
    ("container kill", "-s --signal"),
    ("container logs", "--details -f --follow --since -n --tail -t --timestamps --until"),
    ("container ls", "-a --all -f --filter --format -n --last -l --latest --no-trunc -q --quiet -s --size"),
    ("container pause", ""),
    ("container port", ""),
    ("container prune", "--filter -f --force"),
    ("container rename", ""),
    ("container restart", "-s --signal -t --timeout"),
    ("container rm", "-f --force -l --link -v --volumes"),
    ("container run", RUN),
    ("container start", "-a --attach --checkpoint --checkpoint-dir --detach-keys -i --interactive"),
    ("container stats", "-a --all --format --no-stream --no-trunc"),
    ("container stop", "-s --signal -t --timeout"),
    ("container top", ""),
    ("container unpause", ""),
    (
        "container update",
        "--blkio-weight --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems -m --memory --memory-reservation --memory-swap --pids-limit --restart",
    ),
    ("container wait", ""),
    ("context create", "--description --docker --from"),
    ("context export", ""),
    ("context import", ""),
    ("context inspect", "-f --format"),
    ("context ls", "--format -q --quiet"),
    ("context rm", "-f --force"),
    ("context show", ""),
    ("context update", "--description --docker"),
    ("context use", ""),
    ("image history", "--format -H --human --no-trunc --platform -q --quiet"),
    ("image import", "-c --change -m --message --platform"),
    ("image inspect", "-f --format --platform"),
    ("image load", "-i --input --platform -q --quiet"),
    ("image ls", "-a --all --digests -f --filter --format --no-trunc -q --quiet --tree"),
    ("image prune", "-a --all --filter -f --force"),
    ("image pull", "-a --all-tags --platform -q --quiet"),
    ("image push", "-a --all-tags --platform -q --quiet"),
    ("image rm", "-f --force --no-prune --platform"),
    ("image save", "-o --output --platform"),
    ("image tag", ""),
    ("inspect", "-f --format -s --size --type"),
    ("login", "-p --password --password-stdin -u --username"),
    ("logout", ""),
    ("manifest annotate", "--arch --os --os-features --os-version --variant"),
    ("manifest create", "-a --amend --insecure"),
    ("manifest inspect", "--insecure -v --verbose"),
    ("manifest push", "--insecure -p --purge"),
    ("manifest rm", ""),
    ("network connect", "--alias --driver-opt --gw-priority --ip --ip6 --link --link-local-ip"),
    (
        "network create",
        "--attachable --aux-address --config-from --config-only -d --driver --gateway --ingress --internal --ip-range --ipam-driver --ipam-opt --ipv4 --ipv6 --label -o --opt --scope --subnet",
    ),
    ("network disconnect", "-f --force"),
    ("network inspect", "-f --format -v --verbose"),
    ("network ls", "-f --filter --format --no-trunc -q --quiet"),
    ("network prune", "--filter -f --force"),
    ("network rm", "-f --force"),
    ("plugin", ""),
    ("search", "-f --filter --format --limit --no-trunc"),
    ("swarm", ""),
    ("node", ""),
    ("secret create", "-d --driver -l --label --template-driver"),
    ("secret inspect", "-f --format --pretty"),
    ("secret ls", "-f --filter --format -q --quiet"),
    ("secret rm", ""),
    ("service", ""),
    ("stack", ""),
    ("system df", "--format -v --verbose"),
    ("system dial-stdio", ""),
    ("system events", "-f --filter --format --since --until"),
    ("system info", "-f --format"),
    ("system prune", "-a --all --filter -f --force --volumes"),
    ("trust", ""),
    ("version", "-f --format"),
    ("volume create", "-d --driver --label -o --opt"),
    ("volume inspect", "-f --format"),
    ("volume ls", "-f --filter --format -q --quiet"),
    ("volume prune", "-a --all --filter -f --force"),
    ("volume rm", "-f --force"),
    ("volume update", ""),
];

const BUILD: &str = "--add-host --allow --annotation --attest --build-arg --build-context --builder --cache-from --cache-to --call \
    --cgroup-parent --check --compress --cpu-period --cpu-quota -c --cpu-shares --cpuset-cpus --cpuset-mems -D \
    --debug -f --file --force-rm --iidfile --isolation --label --load -m --memory --memory-swap --metadata-file \
    --network --no-cache --no-cache-filter -o --output --platform --policy --print --progress --provenance --pull \
    --push -q --quiet --resource --rm --sbom --secret --security-opt --shm-size --squash --ssh -t --tag --target \
    --ulimit";

/// What `create` and `run` have in common.
macro_rules! create {
    () => {
    "--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent \
    --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus \
    --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps \
    --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --gpus \
    --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period \
    --health-timeout -h --hostname --init -i --interactive --ip --ip6 --ipc --isolation -l --label --label-file --link \
    --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap \
    --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid \
    --pids-limit --platform --privileged -p --publish -P --publish-all --pull -q --quiet --read-only --restart --rm \
    --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs -t --tty --ulimit \
    --use-api-socket -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir"
    };
}

const CREATE: &str = create!();

const RUN: &str = concat!("-d --detach --detach-keys --sig-proxy ", create!());

/// Why Docker's commands and flags are not there, or what serves instead: "command", "command --flag".
pub const WHY: &[(&str, &str)] = &[
    ("--tls", "TCP is never without certificates: contexts name them"),
    ("--tlscacert", "contexts name certificates: `ctl context create --tls-ca`"),
    ("--tlscert", "contexts name certificates: `ctl context create --tls-cert`"),
    ("--tlskey", "contexts name certificates: `ctl context create --tls-key`"),
    ("--tlsverify", "peers are always verified"),
    ("builder create", "`ctl context create` names the services that build"),
    ("builder imagetools", "`ctl manifest` makes lists for several platforms"),
    ("builder ls", "`ctl context ls` shows where the services are"),
    ("builder use", "`ctl context use` chooses where the services are"),
    ("checkpoint create", "experimental in Docker; needs CRIU"),
    ("checkpoint ls", "experimental in Docker; needs CRIU"),
    ("checkpoint rm", "experimental in Docker; needs CRIU"),
    ("node", "Swarm's"),
    ("plugin", "drivers are built in"),
    ("secret create --template-driver", "Swarm's"),
    ("service", "Swarm's"),
    ("stack", "Swarm's"),
    ("swarm", "Swarm's: `ctl context` names a fleet"),
    ("trust", "Docker's own registry has given it up"),
    ("volume update", "Swarm's"),
    ("network create --config-from", "Swarm's"),
    ("network create --config-only", "Swarm's"),
    ("network create --ingress", "Swarm's"),
    ("network create --scope", "Swarm's"),
    ("builder history", "builds are not kept once they have ended"),
    ("compose", "no compose files yet"),
    ("builder build --annotation", "no attestations and annotations of images yet"),
    ("builder build --builder", "contexts name the services that build"),
    ("builder build --cgroup-parent", "steps are containers of the runtime, which has a setting for it"),
    (
        "builder build --cache-from",
        "cache records are the store's, and serve every builder on it; none come from elsewhere yet",
    ),
    ("builder build --cache-to", "cache records are the store's, and go nowhere else yet"),
    ("builder build --check", "no checks of build definitions yet"),
    ("builder build --debug", "no debugger of builds yet"),
    ("builder build --isolation", "of Windows"),
    ("builder build --policy", "no policies for sources yet"),
    ("builder build --print", "now `--call`"),
    ("builder build --resource", "limits of steps have flags of their own: `--memory`, `--cpu-quota` and the like"),
    (
        "builder build --security-opt",
        "steps have the default profile; with `--allow security.insecure` one can say otherwise",
    ),
    ("builder build --squash", "layers are what is shared; `ctl build -o` writes the files"),
    ("container rm --link", "containers of one network know each other's names"),
    ("container start --checkpoint", "experimental in Docker; needs CRIU"),
    ("container start --checkpoint-dir", "experimental in Docker; needs CRIU"),
    ("manifest create --insecure", "settings of registries say which are spoken to in plain"),
    ("manifest inspect --insecure", "settings of registries say which are spoken to in plain"),
    ("manifest push --insecure", "settings of registries say which are spoken to in plain"),
    ("network connect --link", "containers of one network know each other's names"),
    ("network connect --driver-opt", "no driver has any"),
    ("network create --ipam-driver", "addresses are managed here"),
    ("network create --ipam-opt", "addresses are managed here"),
    ("network inspect --verbose", "Swarm's"),
    ("container run --isolation", "of Windows"),
    ("container run --link", "containers of one network know each other's names"),
    ("container run --use-api-socket", "a container that holds the socket is root of the host"),
];

/// Names of groups whose members have names of their own at the top.
const GROUPS: [&str; 3] = ["container ", "image ", "system "];

/// The name by which [`COMMANDS`] has a command: each of Docker's has one or two.
fn own_name(command: &str) -> String {
    let command = command.replacen("buildx ", "builder ", 1);
    let name = match command.as_str() {
        "build" | "image build" => "builder build",
        "images" | "image list" => "image ls",
        "rmi" | "image remove" => "image rm",
        "ps" | "container list" | "container ps" => "container ls",
        "container remove" => "container rm",
        other => other,
    };
    let is_there = |name: &str| COMMANDS.iter().any(|(own, _)| *own == name);
    if is_there(name) {
        return name.to_owned();
    }
    let full = GROUPS.iter().map(|group| format!("{group}{name}")).find(|full| is_there(full));
    full.unwrap_or_else(|| name.replacen(" list", " ls", 1).replacen(" remove", " rm", 1))
}

/// Says whether Docker has a command.
pub fn has_command(command: &str) -> bool {
    let name = own_name(command);
    COMMANDS.iter().any(|(own, _)| *own == name)
}

/// Docker's flags of a command.
pub fn flags(command: &str) -> impl Iterator<Item = &'static str> {
    let name = own_name(command);
    let found = COMMANDS.iter().find(|(own, _)| *own == name);
    found.into_iter().flat_map(|(_, flags)| flags.split_whitespace())
}

/// Why a command, or a flag of it, is not there, or what serves instead; none: it is not there yet.
pub fn why(command: &str, flag: &str) -> Option<&'static str> {
    let name = own_name(command).replacen("container create", "container run", 1);
    let full = if flag.is_empty() { name } else { format!("{name} {flag}").trim_start().to_owned() };
    WHY.iter().find(|(of, _)| *of == full).map(|(_, why)| *why).filter(|why| !why.is_empty())
}
