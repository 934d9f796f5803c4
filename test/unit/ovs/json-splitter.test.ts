import { expect, test } from 'vitest';
import { JsonSplitter } from '../../../ovs/ovsdb/json-splitter.ts';

test('objects without anything between them are found however the stream is cut, inside a character too', () => {
  const texts = ['{"a":[1,{"b":2}]}', '{"c":"}{\\"é{"}', '{}'];
  const stream = Buffer.from(`${texts[0]}${texts[1]}\n${texts[2]}`);
  for (let cut = 0; cut <= stream.length; cut++) {
    const splitter = new JsonSplitter();
    const found = [...splitter.push(stream.subarray(0, cut)), ...splitter.push(stream.subarray(cut))];
    expect(found.map((text) => JSON.parse(text))).toEqual(texts.map((text) => JSON.parse(text)));
  }
});
