/** One prerequisite, looked at: what was found, and how to mend it when it does not hold. */
import Type from 'typebox';

export const STATUSES = ['ok', 'warning', 'missing', 'unknown'] as const;

export const FindingSchema = Type.Object(
  {
    subject: Type.String({ description: '`host hv1`, `sink sink1`, `vm vm1`' }),
    check: Type.String(),
    status: Type.Unsafe<(typeof STATUSES)[number]>({
      ...{ type: 'string', enum: [...STATUSES] },
      description:
        'missing: parks can’t work; warning: they can, with a loss; unknown: it could not be looked at',
    }),
    found: Type.String(),
    mend: Type.Union([Type.String(), Type.Null()]),
  },
  { $id: 'Finding' },
);
export type Finding = Type.Static<typeof FindingSchema>;

export interface Check {
  check: string;
  status: Finding['status'];
  found: string;
  /** Left out of what is in order. */
  mend?: string;
}

export function findings(subject: string, checks: readonly Check[]): Finding[] {
  return checks.map(({ check, status, found, mend }) => ({
    ...{ subject, check, status, found },
    mend: status === 'ok' ? null : (mend ?? null),
  }));
}

/** What `ask` gives is what was found; when it throws, its error's words are, and it is missing. */
export async function asked(check: string, mend: string, ask: () => Promise<string>): Promise<Check> {
  try {
    return { check, status: 'ok', found: await ask() };
  } catch (thrown) {
    return { check, status: 'missing', found: (thrown as Error).message, mend };
  }
}
