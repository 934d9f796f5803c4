/**
 * Many sinks of one image, made through the sink agent's own interface: `sink-farm.ts PLAN` runs on the sink server's network, is the orchestrator to
 * the agent, and stands in for the VMs' agents: it serves each sink the image under its own name, and takes what comes back.
 * Told what to do by lines of JSON on standard input, answers each with one.
 */
import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { silentLog } from '../../common/log.ts';
import type { AllowedCall } from '../../criu/answers.ts';
import type { Manifest } from '../../criu/manifest.ts';
import type { AgentAddress, SinkAgentApi } from '../../sink-agent/api.ts';
import type { VmAgentApi } from '../../vm-agent/api.ts';
import { writeImage } from '../../wire/image-stream.ts';
import { createRpcClient } from '../../wire/rpc-client.ts';
import { type RpcHandlers, startRpcServer } from '../../wire/rpc-server.ts';
import { loadTls, type TlsFiles } from '../../wire/tls.ts';

export interface FarmPlan {
  /** Folder of the image, on a file system where folders beside it may link to its files. */
  image: string;
  allow: AllowedCall[];
  sinkAgent: AgentAddress;
  /** Where the stand-in listens. */
  listen: AgentAddress;
  orchestratorTls: TlsFiles;
  vmAgentTls: TlsFiles;
}

/** `grow`: so many sinks run. `wake`: so many of them are stopped at once, dumped and sent back; they are gone then. */
export type FarmCommand = { grow: number } | { wake: number };

export interface FarmAnswer {
  sinks: number;
  /** Of each wake, from the word to the image's arrival. */
  wakeMs?: number[];
  error?: string;
}

const IMAGE = 'parked';
const CALL = { timeoutMs: 300_000 };
/** Made at once; more only wait for each other. */
const HANDS = 3;

async function main(planFile: string): Promise<void> {
  const plan = JSON.parse(readFileSync(planFile, 'utf8')) as FarmPlan;
  const manifest = JSON.parse(readFileSync(join(plan.image, 'manifest.json'), 'utf8')) as Manifest;
  const handlers = { image: async () => ({ state: null }) } as Partial<RpcHandlers<VmAgentApi>>;
  await startRpcServer<VmAgentApi>({
    listen: plan.listen,
    tls: loadTls(plan.vmAgentTls),
    allow: () => true,
    handlers: handlers as RpcHandlers<VmAgentApi>,
    images: {
      async send(imageId, out) {
        out.writeHead(200, { 'content-type': 'application/octet-stream' });
        const vm = imageId.slice(IMAGE.length + 1);
        const folder = imageFor(plan.image, { ...manifest, vm, imageId });
        await writeImage(folder, out);
        rmSync(folder, { recursive: true });
      },
      async receive(_imageId, body: IncomingMessage) {
        let bytes = 0;
        for await (const chunk of body) bytes += (chunk as Buffer).length;
        return { bytes };
      },
    },
    log: silentLog,
  });
  const tls = loadTls(plan.orchestratorTls);
  const { address, port, serverName } = plan.sinkAgent;
  const agent = createRpcClient<SinkAgentApi>({ address, port, tls, peer: `sink-agent:${serverName}` });
  const sinks: string[] = [];
  let named = 0;

  const add = async (vm: string): Promise<void> => {
    const imageId = `${IMAGE}-${vm}`;
    const { templateId, network } = manifest;
    const { listen, allow } = plan;
    await agent.call('prepare', { vm, templateId, network, vmAgent: listen, allow }, CALL);
    await agent.call('receive', { vm, imageId }, CALL);
    await agent.call('restore', { vm, imageId }, CALL);
    await agent.call('run', { vm }, CALL);
    sinks.push(vm);
  };
  const wake = async (vm: string): Promise<number> => {
    const imageId = `back-${vm}`;
    const started = performance.now();
    await agent.call('freeze', { vm }, CALL);
    await agent.call('checkpoint', { vm, imageId }, CALL);
    await agent.call('send', { vm, imageId }, CALL);
    return performance.now() - started;
  };
  const obey = async (command: FarmCommand): Promise<FarmAnswer> => {
    if ('grow' in command) {
      let missing = command.grow - sinks.length;
      const hand = async () => {
        while (missing-- > 0) await add(`f${++named}`);
      };
      await Promise.all(Array.from({ length: HANDS }, hand));
      return { sinks: sinks.length };
    }
    const woken = sinks.splice(0, command.wake);
    const wakeMs = await Promise.all(woken.map(wake));
    await Promise.all(woken.map((vm) => agent.call('destroy', { vm, force: true }, CALL)));
    return { sinks: sinks.length, wakeMs };
  };
  process.stdout.write('{"sinks":0}\n');
  for await (const line of createInterface({ input: process.stdin })) {
    const answer = await obey(JSON.parse(line) as FarmCommand).catch((error: Error) => ({
      sinks: sinks.length,
      error: error.message,
    }));
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  process.exit(0);
}

/** The same image under another name: CRIU's files are linked, the manifest is its own. */
function imageFor(image: string, manifest: Manifest): string {
  const folder = `${image}-${manifest.imageId}`;
  rmSync(folder, { recursive: true, force: true });
  for (const tree of manifest.trees) {
    mkdirSync(join(folder, tree.folder), { recursive: true });
    for (const name of readdirSync(join(image, tree.folder)).filter((each) => each.endsWith('.img')))
      linkSync(join(image, tree.folder, name), join(folder, tree.folder, name));
  }
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));
  return folder;
}

if (process.argv[1] === import.meta.filename) await main(process.argv[2] ?? '');
