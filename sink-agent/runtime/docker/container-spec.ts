/** What the container engine is told of a sink: pure. */
import type Docker from 'dockerode';
import { GATE_PROGRAM } from '../../../criu/gate.ts';
import { LIMITS_LIBRARY } from '../../../criu/run.ts';
import type { SinkLimits } from '../../config.ts';
import { AGENT_FOLDER, PROGRAMS } from '../../sandbox/sandbox.ts';
import type { SandboxPlan } from '../runtime.ts';
import { TEMPLATE_LABEL, tagOf } from './images.ts';

export const VM_LABEL = 'seamless.vm';
/** Whose sink it is: several sink agents may share an engine. */
export const SERVER_LABEL = 'seamless.sink-server';
const IMAGE_LABEL = 'seamless.image';

export function containerName(server: string, vm: string): string {
  return `seamless-${server}-${vm}`;
}

export function containerSpec(
  server: string,
  imageId: string,
  { vm, template, images, network }: Pick<SandboxPlan, 'vm' | 'template' | 'images' | 'network'>,
  limits: SinkLimits,
): Docker.ContainerCreateOptions {
  const bind = (source: string, name: string, readOnly = true) => ({
    Type: 'bind' as const,
    Source: source,
    Target: `${AGENT_FOLDER}/${name}`,
    ReadOnly: readOnly,
    BindOptions: { Propagation: 'rprivate' as const },
  });
  return {
    name: containerName(server, vm),
    Image: tagOf(template.id), // readable in `docker ps`; that it is still `imageId` is looked at afterwards
    Hostname: network.hostname,
    Labels: {
      [VM_LABEL]: vm,
      [SERVER_LABEL]: server,
      [TEMPLATE_LABEL]: template.id,
      [IMAGE_LABEL]: imageId,
    },
    // Reaps, and does nothing else: the VM's processes are restored beside it. It needs no right at all.
    Cmd: ['catatonit', '-P'],
    User: '0:0',
    WorkingDir: '/',
    HostConfig: {
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges'],
      NetworkMode: 'none', // its port is put in by us
      IpcMode: 'private',
      RestartPolicy: { Name: 'no' }, // an empty container in its place would be worse than none
      Memory: limits.memoryMiB * 2 ** 20,
      PidsLimit: limits.pids,
      LogConfig: { Type: 'json-file', Config: { 'max-size': '1m', 'max-file': '2' } },
      Tmpfs: { '/run': 'rw,nosuid,nodev,exec,mode=755,size=16m' },
      Mounts: [
        bind(images, 'images', false),
        bind(PROGRAMS, 'programs'),
        bind(GATE_PROGRAM, 'gate'),
        bind(LIMITS_LIBRARY, 'limits.so'),
      ],
      // As in the VM: CRIU sets the number of the next process, and programs find what they know. The filter judges who writes there.
      MaskedPaths: [],
      ReadonlyPaths: [],
    },
  };
}
