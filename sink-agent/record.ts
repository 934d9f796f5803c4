/**
 * What the agent must find again after a restart: one JSON file per sink in `stateDir/sinks`, replaced as a whole.
 *
 * It is written before a step that makes something and after a change of state. Nothing is synced to disk: what it describes
 * (namespaces, processes, images on a tmpfs) ends with the host anyway.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AllowedCall } from '../criu/answers.ts';
import type { NetworkIdentity } from '../criu/manifest.ts';
import type { AgentAddress, ConnectionPolicy, SinkState } from './api.ts';
import type { ProcessIdentity } from './sandbox/process.ts';
import type { Trigger } from './trigger.ts';

export interface SinkRecord {
  version: 1;
  vm: string;
  templateId: string;
  network: NetworkIdentity;
  vmAgent: AgentAddress;
  /** A record of an older agent has none. */
  connections?: ConnectionPolicy;
  /** Of the profile; the same at each seize. Absent in records of older agents. */
  allow?: AllowedCall[];
  /** PID 1 of the container, as the host numbers it; `null` while there is no container. */
  init: ProcessIdentity | null;
  /** Where its cgroup is. Absent in records of older agents, and before there is a container. */
  cgroup?: string;
  /** Its processes have run here: the VM's image of them is older. */
  ran: boolean;
  /** `preparing` and the other steps under way are undone or judged at the next start. */
  state: SinkState;
  step: 'preparing' | 'restoring' | 'dumping' | null;
  imageId: string | null;
  /** Image of the step under way. */
  stepImageId: string | null;
  /** Images that the vm-agent has taken and verified. */
  sent: string[];
  trigger: Trigger | null;
  /** Why it is frozen without a trigger. */
  reason: string | null;
}

export interface RecordStore {
  readAll(): Promise<SinkRecord[]>;
  write(record: SinkRecord): Promise<void>;
  remove(vm: string): Promise<void>;
}

export async function openRecordStore(folder: string): Promise<RecordStore> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = (vm: string) => join(folder, `${vm}.json`);
  return {
    async readAll() {
      const names = (await readdir(folder)).filter((name) => name.endsWith('.json'));
      const records = await Promise.all(
        names.map(async (name) => JSON.parse(await readFile(join(folder, name), 'utf8')) as SinkRecord),
      );
      return records.filter((record) => record.version === 1);
    },
    async write(record) {
      const next = `${path(record.vm)}.next`;
      await writeFile(next, JSON.stringify(record), { mode: 0o600 });
      await rename(next, path(record.vm));
    },
    remove: (vm) => rm(path(vm), { force: true }),
  };
}
