import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { ConfigSchema, parseConfig } from '../../../../orchestrator/config.ts';
import { commentedConfig } from '../../../../orchestrator/init/commented-config.ts';

const text = commentedConfig();

test('it is a configuration as it stands, without hosts and VMs', () => {
  expect(parseConfig(parse(text))).toMatchObject({
    stateDir: '/var/lib/seamless',
    hosts: [],
    sinks: [],
    vms: [],
  });
});

test('every key of the schema is in it, with its meaning', () => {
  for (const [key, schema] of Object.entries(ConfigSchema.properties)) {
    expect(text).toMatch(new RegExp(`^#?${key}:`, 'm'));
    const [words] = /^\S+ \S+ \S+/.exec((schema as { description?: string }).description ?? '') ?? [];
    if (words) expect(text).toContain(`# ${words}`);
  }
});

test('a VM, a sink server and a host that are commented in are valid ones', () => {
  const listed = (key: string) => {
    const lines = text.split('\n');
    const from = lines.indexOf(`${key}: []`) + 1;
    const entry = lines
      .slice(from, lines.indexOf('', from))
      .filter((line) => /^# {2}(- | {2})[a-z]\w*:|^# {6}/.test(line));
    return parse(`${key}:\n${entry.map((line) => line.slice(1)).join('\n')}`)[key] as object[];
  };
  const hosts = listed('hosts').map((host) => {
    const { transport, ...rest } = host as { transport: object };
    const hostKey = 'SHA256:HVKTJGJ0HVE6u/VxSZehiTU0n4x9CNqp0wxeeay/46Q';
    return { ...rest, transport: { ...transport, hostKey } };
  });
  const [sink] = listed('sinks');
  const value = { ...parse(text), hosts, sinks: [{ ...sink, host: 'hv1' }], vms: listed('vms') };
  expect(parseConfig(value).vms).toHaveLength(1);
});

test('no line is too long to be read', () => {
  expect(text.split('\n').filter((line) => line.length > 140)).toEqual([]);
});
