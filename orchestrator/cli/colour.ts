/** Colours of states, on a terminal that may have them (https://no-color.org). */

export type Paint = (state: string, text: string) => string;

const CODES: Record<string, number> = { parked: 32, parking: 33, unparking: 33, stuck: 31, unknown: 35 };

export function painter(out: Pick<NodeJS.WriteStream, 'isTTY'>, env: NodeJS.ProcessEnv): Paint {
  const isPlain = !out.isTTY || (env.NO_COLOR ?? '') !== '' || env.TERM === 'dumb';
  return (state, text) => {
    const code = CODES[state];
    return isPlain || code === undefined ? text : `\x1b[${code}m${text}\x1b[0m`;
  };
}
