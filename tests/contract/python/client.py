"""Another service's client, made from the protos alone: builds an image, runs a container from it, reads its logs.

    client.py STORE BUILDER RUNTIME CONTEXT NAME [--tls CA CERT KEY]

Endpoints are gRPC targets: unix:/path/to/store.sock, or host:port with --tls.
Prints what happened, one fact per line: "image ID", "step STATE NAME", "log STREAM TEXT", "exit CODE".
"""

import argparse
import os
import pathlib
import queue
import stat
import sys

import blake3
import grpc

from strata.builder.v1 import builds_pb2, builds_pb2_grpc
from strata.runtime.v1 import containers_pb2, containers_pb2_grpc, logs_pb2, specs_pb2
from strata.store.v1 import images_pb2, images_pb2_grpc

CHUNK = 256 * 1024


class Context:
    """A directory as a Merkle tree: directories and files by the blake3 of what they hold."""

    def __init__(self, path):
        self.directories = {}
        self.files = {}
        self.root = self._add(pathlib.Path(path))

    def _add(self, path):
        directory = builds_pb2.ContextDirectory()
        for name in sorted(os.listdir(os.fsencode(path))):
            child = path / os.fsdecode(name)
            info = child.lstat()
            entry = directory.entries.add(name=name, mode=stat.S_IMODE(info.st_mode))
            if stat.S_ISDIR(info.st_mode):
                entry.directory = self._add(child)
            elif stat.S_ISLNK(info.st_mode):
                entry.symlink = os.readlink(os.fsencode(child))
            else:
                digest = blake3.blake3(child.read_bytes()).digest()
                entry.file.blake3 = digest
                entry.file.size_bytes = info.st_size
                self.files[digest] = child
        digest = blake3.blake3(directory.SerializeToString(deterministic=True)).digest()
        self.directories[digest] = directory
        return digest

    def contents(self, digests):
        """Messages with the bytes of these files, in this order."""
        for digest in digests:
            data = self.files[digest].read_bytes()
            for start in range(0, max(len(data), 1), CHUNK):
                yield builds_pb2.BuildRequest(
                    content=builds_pb2.ContextContent(
                        blake3=digest if start == 0 else b"",
                        chunk=data[start : start + CHUNK],
                        last=start + CHUNK >= len(data),
                    )
                )


def build(channel, path, name):
    """Builds the directory's Dockerfile and returns the image's id."""
    context = Context(path)
    start = builds_pb2.BuildStart(
        names=[name],
        dockerfile=(pathlib.Path(path) / "Dockerfile").read_bytes(),
        dockerfile_name="Dockerfile",
        context_root=context.root,
    )
    requests = queue.SimpleQueue()
    requests.put(builds_pb2.BuildRequest(start=start))
    stub = builds_pb2_grpc.BuildServiceStub(channel)
    for response in stub.Build(iter(requests.get, None)):
        event = response.WhichOneof("event")
        if event == "need_directories":
            found = [context.directories[digest] for digest in response.need_directories.digests]
            answer = builds_pb2.ContextDirectories(directories=found)
            requests.put(builds_pb2.BuildRequest(directories=answer))
        elif event == "need_contents":
            for message in context.contents(response.need_contents.blake3):
                requests.put(message)
        elif event == "step" and response.step.state in (builds_pb2.STEP_STATE_DONE, builds_pb2.STEP_STATE_CACHED):
            state = builds_pb2.StepState.Name(response.step.state).removeprefix("STEP_STATE_").lower()
            print("step", state, response.step.name)
        elif event == "completed":
            requests.put(None)
            return response.completed.image_id
    raise RuntimeError("the build ended without a result")


def run(channel, image):
    """Runs the image's own command, prints its log and returns its exit code."""
    stub = containers_pb2_grpc.ContainerServiceStub(channel)
    spec = specs_pb2.ContainerSpec(image=image)
    container = stub.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec)).container
    try:
        stub.StartContainer(containers_pb2.StartContainerRequest(container=container.id))
        for line in stub.ReadLogs(logs_pb2.ReadLogsRequest(container=container.id, follow=True)):
            print("log", "stderr" if line.is_stderr else "stdout", line.chunk.decode().rstrip("\n"))
        ended = stub.WaitContainer(containers_pb2.WaitContainerRequest(container=container.id)).exit
        return ended.code if ended.WhichOneof("kind") == "code" else 128 + ended.signal
    finally:
        stub.DeleteContainer(containers_pb2.DeleteContainerRequest(container=container.id, force=True))


def main():
    parser = argparse.ArgumentParser()
    for name in ("store", "builder", "runtime", "context", "name"):
        parser.add_argument(name)
    parser.add_argument("--tls", nargs=3, metavar=("CA", "CERT", "KEY"))
    args = parser.parse_args()

    # The authority of a Unix socket's path is no host name that HTTP/2 servers accept.
    options = [("grpc.default_authority", "localhost")] if not args.tls else []
    credentials = None
    if args.tls:
        ca, cert, key = (pathlib.Path(file).read_bytes() for file in args.tls)
        credentials = grpc.ssl_channel_credentials(ca, key, cert)

    def connect(target):
        if credentials:
            return grpc.secure_channel(target, credentials)
        return grpc.insecure_channel(target, options)

    try:
        with connect(args.builder) as channel:
            image = build(channel, args.context, args.name)
        print("image", image)
        with connect(args.store) as channel:
            request = images_pb2.GetImageRequest(reference=args.name)
            assert images_pb2_grpc.ImageServiceStub(channel).GetImage(request).image.id == image
        with connect(args.runtime) as channel:
            print("exit", run(channel, args.name))
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
