// A Dagger program in TypeScript that pocket is tried with: build, exec, service binding and export.
//
//   npx tsx main.ts BASE.tar [OUT]
//
// BASE.tar is an image archive with /bin/sh, wget and nc (busybox). OUT is the directory that the result is exported to.
import { connection, dag, Container, NetworkProtocol, ReturnType } from "@dagger.io/dagger"
import * as assert from "node:assert/strict"
import { mkdtemp, readFile, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

const [archive, given] = process.argv.slice(2)
if (!archive) throw new Error("usage: main.ts BASE.tar [OUT]")

async function main(): Promise<void> {
  const out = given ?? (await mkdtemp(join(tmpdir(), "pocket-ts-")))
  const base: Container = dag.container().import_(dag.host().file(archive))

  // exec: output, exit code, an error with what the command wrote
  const run = base
    .withEnvVariable("NAME", "pocket")
    .withExec(["sh", "-c", "echo hello $NAME; echo noise >&2"])
  assert.equal(await run.stdout(), "hello pocket\n")
  assert.equal(await run.stderr(), "noise\n")
  const failed = base.withExec(["sh", "-c", "echo why >&2; exit 3"], { expect: ReturnType.Any })
  assert.equal(await failed.exitCode(), 3)
  await assert.rejects(
    base.withExec(["sh", "-c", "echo why >&2; exit 3"]).sync(),
    (e: Error & { exitCode?: number; stderr?: string }) => e.exitCode === 3 && e.stderr === "why",
  )
  console.log("exec: ok")

  // files and directories, lists of objects (which the SDK loads back by id)
  const source = dag
    .directory()
    .withNewFile("app/main.sh", "#!/bin/sh\necho built with $VERSION\n", { permissions: 0o755 })
    .withNewFile("Dockerfile", ["FROM scratch", "ARG VERSION=0", "LABEL version=$VERSION", "COPY app /app", 'CMD ["/app/main.sh"]'].join("\n"))
  assert.deepEqual(await source.entries(), ["Dockerfile", "app/"])
  const image = source.dockerBuild({ buildArgs: [{ name: "VERSION", value: "1.2" }] })
  assert.deepEqual(await image.defaultArgs(), ["/app/main.sh"])
  const labels = await image.labels()
  assert.deepEqual(await Promise.all(labels.map(async (l) => `${await l.name()}=${await l.value()}`)), ["version=1.2"])
  const tree = base.withDirectory("/", image.rootfs()).withEnvVariable("VERSION", "1.2").withExec(["/app/main.sh"])
  assert.equal(await tree.stdout(), "built with 1.2\n")
  console.log("build: ok")

  // ids: an object goes out as an id and comes back
  const again = dag.loadDirectoryFromID(await source.id())
  assert.equal(await again.file("app/main.sh").size(), 35)
  const caching = base
    .withMountedCache("/cache", dag.cacheVolume("ts"))
    .withMountedSecret("/secret", dag.setSecret("token", "s3cret"))
    .withExec(["sh", "-c", "date > /cache/when; wc -c < /secret"])
  assert.equal((await caching.stdout()).trim(), "6")

  // services: bound by alias, and reached from the host
  const web = base
    .withNewFile("/www/index.html", "served by pocket")
    .withExposedPort(8080, { protocol: NetworkProtocol.Tcp })
    .asService({ args: ["sh", "-c", "while true; do printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 16\\r\\n\\r\\nserved by pocket' | nc -l -p 8080; done"] })
  const client = base
    .withServiceBinding("web", web)
    .withExec(["sh", "-c", "for i in 1 2 3 4 5; do wget -qO- http://web:8080/ && exit 0; done; exit 1"])
  assert.equal(await client.stdout(), "served by pocket")
  console.log("service: ok")

  // export: a directory, a file and an image
  await source.directory("app").export(join(out, "app"))
  assert.equal((await stat(join(out, "app/main.sh"))).mode & 0o777, 0o755)
  await tree.rootfs().file("app/main.sh").export(join(out, "main.sh"))
  assert.match(await readFile(join(out, "main.sh"), "utf8"), /built with/)
  await image.export(join(out, "image.tar"))
  assert.ok((await stat(join(out, "image.tar"))).size > 1024)
  console.log("export: ok")
}

await connection(main, { LogOutput: process.stderr })
console.log("all ok")
