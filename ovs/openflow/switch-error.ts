/** An OpenFlow error message as a `SeamlessError` that also holds what was sent. */
import { SeamlessError } from '../../common/errors.ts';
import type { Message } from './message.ts';

/** ofp_error_type; the experimenter's are 0xffff. */
const TYPES: Record<number, string> = {
  0: 'hello failed',
  1: 'bad request',
  2: 'bad action',
  3: 'bad instruction',
  4: 'bad match',
  5: 'flow mod failed',
  7: 'port mod failed',
  10: 'switch config failed',
  13: 'multipart failed',
  15: 'async config failed',
  17: 'bundle failed',
  0xffff: 'experimenter error',
};

export function switchError(
  message: Message,
  sent: { type: number; bytes: Buffer } | undefined,
): SeamlessError {
  const type = message.body.readUInt16BE(0);
  const code = message.body.readUInt16BE(2);
  return new SeamlessError(
    'HOST_UNREACHABLE',
    `the switch refused: ${TYPES[type] ?? `error type ${type}`}, code ${code}`,
    {
      details: {
        errorType: type,
        errorCode: code,
        sentType: sent?.type,
        sent: sent?.bytes.toString('hex'),
        returned: message.body.subarray(4).toString('hex'),
      },
    },
  );
}
