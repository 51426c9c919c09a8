// Embind's named functions without code from text (the way Emscripten's DYNAMIC_EXECUTION=0 has them; MIT licence).
function createNamedFunction(name, body) {
  name = makeLegalFunctionName(name);
  return {
    [name]: function () {
      return body.apply(this, arguments);
    },
  }[name];
}
