/** What every command does alike: finds the service, prints, and fails with the exit code of common/errors.ts. */
import type { Command } from 'commander';
import { asSeamlessError, ERRORS, type SeamlessError } from '../../common/errors.ts';
import type { Operation } from '../vm/operation.ts';
import { type ApiClient, apiClient, findSocket, remoteClient } from './client.ts';

export interface Options {
  socket?: string;
  server?: string;
  tokenFile?: string;
  caFile?: string;
  json?: boolean;
  wait?: boolean;
  force?: boolean;
  gateways?: boolean;
  follow?: boolean;
  since?: string;
  seconds?: string;
  steps?: boolean;
  state?: string[];
  label?: string[];
  scope?: string;
  days?: string;
}

/** A command of the service’s, with what each of them takes. */
export function addCommand(parent: Command, name: string, description: string): Command {
  return parent
    .command(name)
    .description(description)
    .option('--json', 'print JSON')
    .copyInheritedSettings(parent);
}

export async function run(
  self: Command,
  action: (client: ApiClient, options: Options) => Promise<void>,
): Promise<void> {
  const options = self.optsWithGlobals<Options>();
  try {
    await action(clientOf(options, process.env), options);
  } catch (thrown) {
    fail(asSeamlessError(thrown), options);
  }
}

export function fail(error: SeamlessError, { json }: Pick<Options, 'json'>, operation?: Operation): void {
  const { next, exit } = ERRORS[error.code];
  process.stderr.write(`${error.code}: ${error.message}\n${next}\n`);
  if (json) print(JSON.stringify({ error: error.toBody(), ...(operation ? { operation } : {}) }));
  process.exitCode = exit;
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function vmPath(vm: string): string {
  return `/v1/vms/${encodeURIComponent(vm)}`;
}

function clientOf({ socket, server, tokenFile, caFile }: Options, env: NodeJS.ProcessEnv): ApiClient {
  const url = server ?? (socket === undefined ? env.SEAMLESS_SERVER : undefined);
  if (url === undefined) return apiClient(findSocket(socket, env));
  return remoteClient({
    server: url,
    tokenFile: tokenFile ?? env.SEAMLESS_TOKEN_FILE,
    caFile: caFile ?? env.SEAMLESS_CA_FILE,
  });
}
