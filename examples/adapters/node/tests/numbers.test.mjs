import assert from "node:assert/strict";
import test from "node:test";

test("numbers are added", () => assert.equal(2 + 3, 5));
test("numbers are rounded", { skip: "not today" }, () => assert.equal(Math.round(0.5), 1));
