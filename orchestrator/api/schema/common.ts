/** Pieces that several schemas share. A schema here validates, serialises and documents (docs/openapi.json) at once. */
import Type from 'typebox';

export const strict = { additionalProperties: false } as const;

export function nullable<S extends Type.TSchema>(schema: S) {
  return Type.Union([schema, Type.Null()]);
}

/** What other parts define as a type and the API passes on as it is. */
export function opaque<T>(description: string) {
  return Type.Unsafe<T>({ type: 'object', additionalProperties: true, description });
}

/** A reference to a schema that `app.addSchema` knows by this id; the document names it so, and so do generated clients. */
export function named<S extends Type.TSchema>(schema: S) {
  return Type.Unsafe<Type.Static<S>>({ $ref: `${(schema as { $id?: string }).$id}#` });
}

export const Time = Type.String({ format: 'date-time' });

export const PageQuery = {
  limit: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'At most so many.' }),
  ),
  cursor: Type.Optional(
    Type.String({ minLength: 1, maxLength: 400, description: '`next` of the page before.' }),
  ),
} as const;

export const Next = nullable(
  Type.String({ description: 'The cursor of the next page; null on the last one.' }),
);
