/** RFC 9457, with our stable code. */
import Type from 'typebox';

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ format: 'uri', description: '`urn:seamless:error:CODE`' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'What was expected, and what was got.' }),
    code: Type.String({ pattern: '^[A-Z_]+$', description: 'Stable; docs/errors.md has a line for each.' }),
    next: Type.String({ description: 'What the operator should do.' }),
    details: Type.Record(Type.String(), Type.Unknown()),
  },
  { $id: 'Problem', description: 'An error as RFC 9457 problem details.' },
);
