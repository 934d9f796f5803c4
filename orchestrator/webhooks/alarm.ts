/** What aodh sends when an alarm changes its state, as far as it is read; and what it asks for. Pure. */
import Type from 'typebox';

export const AlarmBody = Type.Object(
  {
    alarm_id: Type.String({ minLength: 1, maxLength: 200 }),
    alarm_name: Type.Optional(Type.String()),
    previous: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    current: Type.Union([Type.Literal('alarm'), Type.Literal('ok'), Type.Literal('insufficient data')]),
    reason: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    reason_data: Type.Optional(
      Type.Unknown({ description: 'Of an event alarm: the event, whose traits name the server.' }),
    ),
  },
  { $id: 'AodhAlarm', description: 'The body of aodh’s webhook, as it is.' },
);

export type Alarm = Type.Static<typeof AlarmBody>;
export type Action = 'park' | 'unpark';

/** @returns null for `insufficient data`: doubt parks nobody, and wakes nobody */
export function wantedAction({ current }: Alarm, onAlarm: Action): Action | null {
  if (current === 'insufficient data') return null;
  if (current === 'alarm') return onAlarm;
  return onAlarm === 'park' ? 'unpark' : 'park';
}

/** By the traits `[name, type, value]` of the event that fired the alarm; null when it names no server. */
export function serverOf({ reason_data: data }: Alarm): string | null {
  const traits = (data as { event?: { traits?: unknown } } | null | undefined)?.event?.traits;
  if (!Array.isArray(traits)) return null;
  const value = (wanted: string) => traits.find((trait) => Array.isArray(trait) && trait[0] === wanted)?.[2];
  const server = value('instance_id') ?? value('resource_id');
  return typeof server === 'string' ? server : null;
}
