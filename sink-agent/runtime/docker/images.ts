/**
 * Templates as images of the container engine: imported once each, shared by all sinks of a template as a read-only layer.
 *
 * An image is known by its tag and believed by its label: one that says it is of another template is never used, whoever tagged it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type Docker from 'dockerode';
import { SeamlessError } from '../../../common/errors.ts';
import type { SinkTemplate } from '../../templates.ts';
import type { Daemon } from './daemon.ts';

const REPOSITORY = 'seamless-template';
export const TEMPLATE_LABEL = 'seamless.template';
/** Characters of a template's id in the tag, which `docker ps` shows; the label has all of it. */
const TAG_CHARS = 12;
const IMPORT_MS = 10 * 60_000;
/** The orchestrator waits half as long again for a sink to be made, and a park that is taken back waits for its end. */
const WAIT_MS = 50_000;

export interface TemplateImages {
  /**
   * The id of the image of `template`, imported now when it is not there. `TEMPLATE_MISMATCH` for one of another template; `AGENT_REFUSED`
   * when the import takes longer than who asks may wait: it goes on, and the next one finds it.
   */
  ensure(template: SinkTemplate): Promise<string>;
}

export function templateImages(daemon: Daemon): TemplateImages {
  const imports = new Map<string, Promise<string>>();
  const ensure = async (template: SinkTemplate) => {
    const present = await find(daemon, template.id);
    if (present !== null) return present;
    await importTemplate(daemon, template);
    const made = await find(daemon, template.id);
    if (made !== null) return made;
    throw new SeamlessError(
      'COMMAND_FAILED',
      `Expected the image ${tagOf(template.id)} after its import, got none`,
    );
  };
  return {
    ensure(template) {
      // Two sinks at once must not import twice; what is there is looked at again each time.
      const running = imports.get(template.id) ?? ensure(template).finally(() => imports.delete(template.id));
      imports.set(template.id, running);
      return inTime(running, template.id);
    },
  };
}

export function tagOf(templateId: string): string {
  return `${REPOSITORY}:${templateId.slice(0, TAG_CHARS)}`;
}

async function inTime(image: Promise<string>, templateId: string): Promise<string> {
  const late = Promise.withResolvers<never>();
  const refusal = `The container engine still imports ${tagOf(templateId)}; park again when \`docker images\` shows it`;
  const timer = setTimeout(() => late.reject(new SeamlessError('AGENT_REFUSED', refusal)), WAIT_MS);
  try {
    return await Promise.race([image, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

async function find(daemon: Daemon, templateId: string): Promise<string | null> {
  const image = await daemon.find(`show the image ${tagOf(templateId)}`, (docker) =>
    docker.getImage(tagOf(templateId)).inspect(),
  );
  if (image === null) return null;
  const label = image.Config.Labels?.[TEMPLATE_LABEL];
  if (label === templateId) return image.Id;
  throw new SeamlessError(
    'TEMPLATE_MISMATCH',
    `Expected ${tagOf(templateId)} to be of that template by its label ${TEMPLATE_LABEL}, got ${label ?? 'no label'}; remove the image, and it is imported anew`,
  );
}

/** As a tar stream: nothing is written twice, and the layer has the template's owners, times and capabilities. */
async function importTemplate(daemon: Daemon, { id, root }: SinkTemplate): Promise<void> {
  const options = ['--create', '--numeric-owner', '--xattrs', '--xattrs-include=*', '--one-file-system'];
  const tar = spawn('tar', [...options, '--directory', root, '.'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaints = '';
  tar.stderr.on('data', (chunk: Buffer) => {
    complaints = (complaints + chunk.toString('utf8')).slice(-2000);
  });
  const ended = once(tar, 'close');
  try {
    await daemon.ask(
      `import ${root}`,
      async (docker) => {
        const changes = `LABEL ${TEMPLATE_LABEL}=${id}`;
        const given = { fromSrc: '-', repo: REPOSITORY, tag: `importing-${id}`, changes };
        const progress = await docker.importImage(tar.stdout, given);
        await followed(docker, progress);
      },
      IMPORT_MS,
    );
  } finally {
    tar.kill();
  }
  const [code] = await ended;
  if (code !== 0)
    throw new SeamlessError('COMMAND_FAILED', `tar of ${root} exited with ${code}: ${complaints.trim()}`);
  // Only a whole one gets the name by which it is found.
  await daemon.ask(`name the image of ${root}`, async (docker) => {
    const importing = docker.getImage(`${REPOSITORY}:importing-${id}`);
    await importing.tag({ repo: REPOSITORY, tag: id.slice(0, TAG_CHARS) });
    await importing.remove();
  });
}

/** The engine says in the answer's body whether it succeeded. */
async function followed(docker: Docker, progress: NodeJS.ReadableStream): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(progress, (error, lines: { error?: string }[]) => {
      const refusal = error?.message ?? lines?.find((line) => line.error)?.error;
      if (refusal === undefined) resolve();
      else reject(new SeamlessError('COMMAND_FAILED', `The container engine did not import it: ${refusal}`));
    });
  });
}
