// What a user of the JavaScript client does, case by case: `node replicate.mjs CASE`, with CLIENT naming the folder in
// which npm put the published client.
import assert from "node:assert/strict";
import { File } from "node:buffer";
import { webcrypto } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const Replicate = createRequire(join(process.env.CLIENT, "package.json"))("replicate");
const { validateWebhook } = Replicate;
const versions = JSON.parse(process.env.VERSIONS);
const replicate = new Replicate({ baseUrl: process.env.BASE_URL });
const ENDS = ["succeeded", "failed", "canceled"];

async function text(file) {
  return (await file.blob()).text();
}

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error.response, `no answer: ${error}`);
    return error.response.status;
  }
  assert.fail("it was not refused");
}

// Takes webhooks, each checked with the client's own helper, until one says that it is the end.
async function hooks(create) {
  const secret = (await replicate.webhooks.default.secret.get()).key;
  const taken = [];
  let ended;
  const end = new Promise((resolve, reject) => {
    ended = { resolve, reject };
  });
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    response.end();
    try {
      assert.ok(await validateWebhook({ headers: request.headers, body }, secret, webcrypto), "the signature is wrong");
      const prediction = JSON.parse(body);
      taken.push(prediction);
      if (ENDS.includes(prediction.status)) ended.resolve();
    } catch (error) {
      ended.reject(error);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await create(`http://127.0.0.1:${server.address().port}/`);
    await end;
  } finally {
    server.close();
    server.closeAllConnections();
  }
  return taken;
}

const cases = {
  async case_run() {
    assert.equal(await replicate.run("acme/hello", { input: { text: "Alice" } }), "hello Alice");
    const ref = `acme/hello:${versions.hello}`;
    assert.equal(await replicate.run(ref, { input: { text: "Bob", times: 2 } }), "hello Bob hello Bob");
    assert.deepEqual(await replicate.run("acme/words", { input: { text: "one two" } }), ["one", " two"]);
  },

  async case_run_by_polling() {
    const seen = [];
    const options = { input: { text: "Cid" }, wait: { mode: "poll", interval: 50 } };
    const output = await replicate.run("acme/hello", options, (prediction) => seen.push(prediction.status));
    assert.equal(output, "hello Cid");
    assert.equal(seen[0], "starting");
    assert.equal(seen.at(-1), "succeeded");
  },

  async case_run_when_the_wait_runs_out() {
    const options = { input: { text: "Dan", seconds: 2 }, wait: { mode: "block", timeout: 1 } };
    assert.equal(await replicate.run("acme/hello", options), "hello Dan");
  },

  async case_a_model_that_fails() {
    const run = replicate.run("acme/hello", { input: { text: "Eve", fail: true } });
    await assert.rejects(run, /Prediction failed: .*cannot greet Eve/);
  },

  async case_stream() {
    const events = [];
    const options = { input: { text: "one two\nthree" } };
    for await (const event of replicate.stream("acme/words", options)) events.push(event);
    assert.equal(events.map(String).join(""), "one two\nthree");
    assert.equal(events.at(-1).event, "done");
  },

  async case_stream_that_fails() {
    const drain = async () => {
      const options = { input: { text: "a b", fail_after: 1 } };
      for await (const event of replicate.stream("acme/words", options)) String(event);
    };
    await assert.rejects(drain, /no more words/);
  },

  async case_stream_of_files() {
    const pictures = [];
    for await (const event of replicate.stream("acme/gallery", { input: { count: 2 } })) {
      if (event.event === "output") pictures.push(await text(event.data));
    }
    assert.deepEqual(pictures, ["picture 0", "picture 1"]);
  },

  async case_files_in_and_out() {
    const output = await replicate.run("acme/shout", { input: { document: Buffer.from("soft words") } });
    assert.equal(await text(output), "SOFT WORDS");
    // The strategy `data-uri` of this version sends the client in place of the input, so the URL is made here.
    const document = `data:text/plain;base64,${Buffer.from("in line").toString("base64")}`;
    assert.equal(await text(await replicate.run("acme/shout", { input: { document } })), "IN LINE");
    const gallery = await replicate.run("acme/gallery", { input: { count: 2 } });
    assert.deepEqual(await Promise.all(gallery.map(text)), ["picture 0", "picture 1"]);
  },

  async case_addresses_instead_of_files() {
    const plain = new Replicate({ baseUrl: process.env.BASE_URL, useFileOutput: false, userAgent: "my-app/1" });
    const address = await plain.run("acme/shout", { input: { document: Buffer.from("far") } });
    assert.match(address, /^http/);
    // Without a token.
    assert.equal(await (await fetch(address)).text(), "FAR");
  },

  async case_files() {
    const file = new File(["to keep"], "keep.txt", { type: "text/plain" });
    const made = await replicate.files.create(file, { for: "later" });
    assert.deepEqual([made.name, made.size, made.metadata], ["keep.txt", 7, { for: "later" }]);
    assert.ok((await replicate.files.list()).results.some((file) => file.id === made.id));
    assert.equal((await replicate.files.get(made.id)).etag, made.etag);
    assert.equal(await replicate.files.delete(made.id), true);
    assert.equal(await refused(replicate.files.get(made.id)), 404);
  },

  async case_webhooks() {
    const taken = await hooks((webhook) =>
      replicate.predictions.create({
        version: versions.words,
        input: { text: "ring ring", pause: 0.6 },
        webhook,
        webhook_events_filter: ["start", "output", "logs", "completed"],
      })
    );
    assert.deepEqual(taken.at(-1).output, ["ring", " ring"]);
    assert.ok(taken.length >= 2);
  },

  async case_create_wait_cancel() {
    const made = await replicate.predictions.create({ model: "acme/hello", input: { text: "Flo" } });
    assert.equal(made.status, "starting");
    assert.equal((await replicate.wait(made, { interval: 50 })).output, "hello Flo");
    const slow = await replicate.predictions.create({ version: versions.hello, input: { text: "Gus", seconds: 100 } });
    await replicate.predictions.cancel(slow.id);
    assert.equal((await replicate.wait(slow, { interval: 50 })).status, "canceled");
  },

  async case_abort_a_run() {
    const stop = new AbortController();
    const options = { input: { text: "Hal", seconds: 100 }, wait: { mode: "poll", interval: 50 }, signal: stop.signal };
    let id;
    const run = replicate.run("acme/hello", options, (prediction) => {
      id = prediction.id;
      if (prediction.status === "processing") stop.abort();
    });
    await run.catch((error) => assert.equal(error.name, "AbortError"));
    await replicate.predictions.cancel(id);
    assert.equal((await replicate.wait({ id }, { interval: 50 })).status, "canceled");
  },

  async case_pages() {
    for (let number = 0; number < 101; number += 1) {
      await replicate.predictions.create({ version: versions.hello, input: { text: `page ${number}` } });
    }
    const seen = [];
    for await (const page of replicate.paginate(replicate.predictions.list)) {
      seen.push(...page.map((prediction) => prediction.id));
      if (seen.length > 100) break;
    }
    assert.equal(new Set(seen).size, seen.length);
    assert.ok(seen.length > 100);
  },

  async case_models() {
    const name = `js-${process.pid}`;
    const made = await replicate.models.create("acme", name, { visibility: "private", hardware: "cpu" });
    assert.deepEqual([made.owner, made.name, made.latest_version], ["acme", name, null]);
    assert.equal((await replicate.models.get("acme", name)).url, made.url);
    const found = await replicate.models.search(name);
    assert.deepEqual(found.results.map((model) => model.name), [name]);
    assert.ok((await replicate.models.list()).results.some((model) => model.name === name));
    const list = await replicate.models.versions.list("acme", "hello");
    assert.ok(list.results.some((version) => version.id === versions.hello));
    assert.equal((await replicate.models.versions.get("acme", "hello", versions.hello)).id, versions.hello);
  },

  async case_deployments() {
    const name = `js-${process.pid}`;
    const made = await replicate.deployments.create({
      name,
      model: "acme/hello",
      version: versions.hello,
      hardware: "cpu",
      min_instances: 0,
      max_instances: 1,
    });
    const prediction = await replicate.deployments.predictions.create(made.owner, name, {
      input: { text: "Ida" },
      wait: true,
    });
    assert.equal(prediction.output, "hello Ida");
    const changed = await replicate.deployments.update(made.owner, name, { max_instances: 2 });
    assert.equal(changed.current_release.number, 2);
    assert.ok((await replicate.deployments.list()).results.some((deployment) => deployment.name === name));
    assert.equal(await replicate.deployments.delete(made.owner, name), true);
    assert.equal(await refused(replicate.deployments.get(made.owner, name)), 404);
  },

  async case_trainings() {
    const name = `js-tuned-${process.pid}`;
    await replicate.models.create("acme", name, { visibility: "private", hardware: "cpu" });
    let id;
    const taken = await hooks(async (webhook) => {
      const training = await replicate.trainings.create("acme", "tuner", versions.tuner, {
        destination: `acme/${name}`,
        input: { sentence: "in script" },
        webhook,
        webhook_events_filter: ["completed"],
      });
      id = training.id;
    });
    const training = await replicate.trainings.get(id);
    assert.equal(training.status, "succeeded", JSON.stringify(taken));
    assert.equal(await replicate.run(training.output.version, { input: {} }), "what? in script");
    assert.ok((await replicate.trainings.list()).results.some((each) => each.id === id));
    assert.equal((await replicate.trainings.cancel(id)).status, "succeeded");
  },

  async case_account_and_the_rest() {
    assert.equal((await replicate.accounts.current()).type, "user");
    assert.ok((await replicate.hardware.list()).some((each) => each.sku === "cpu"));
    const [first] = (await replicate.collections.list()).results;
    assert.equal((await replicate.collections.get(first.slug)).slug, first.slug);
  },

  async case_refusals() {
    const wrong = new Replicate({ baseUrl: process.env.BASE_URL, auth: "wrong" });
    assert.equal(await refused(wrong.predictions.list()), 401);
    assert.equal(await refused(replicate.predictions.get("nothing")), 404);
    assert.equal(await refused(replicate.run("acme/hello", { input: { text: 7, prompt: "x" } })), 422);
  },
};

await cases[process.argv[2]]();
