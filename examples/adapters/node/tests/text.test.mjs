import assert from "node:assert/strict";
import { describe, it } from "node:test";

describe("text", () => {
  it("is trimmed", () => assert.equal("  a ".trim(), "a"));
  it("is split", () => assert.deepEqual("a,b".split(","), ["a", "b"]));
});
