// Embind's callers of compiled code without code from text (the way Emscripten's DYNAMIC_EXECUTION=0 has them; MIT licence).
function craftInvokerFunction(humanName, argTypes, classType, invoker, target) {
  const argCount = argTypes.length;
  if (argCount < 2) {
    throwBindingError("argTypes array size mismatch! Must at least get return value and 'this' types!");
  }
  const method = argTypes[1] !== null && classType !== null;
  const stack = argTypes.slice(1).some(type => type !== null && type.destructorFunction === undefined);
  const returns = argTypes[0].name !== 'void';
  const expected = argCount - 2;
  return function (...given) {
    if (given.length !== expected) {
      throwBindingError('function ' + humanName + ' called with ' + given.length + ' arguments, expected ' + expected + ' args!');
    }
    const destructors = stack ? [] : null;
    const self = method ? argTypes[1].toWireType(destructors, this) : undefined;
    const wired = given.map((value, index) => argTypes[index + 2].toWireType(destructors, value));
    const answer = method ? invoker(target, self, ...wired) : invoker(target, ...wired);
    if (stack) {
      runDestructors(destructors);
    } else {
      for (let index = method ? 1 : 2; index < argCount; index++) {
        if (argTypes[index].destructorFunction !== null) {
          argTypes[index].destructorFunction(index === 1 ? self : wired[index - 2]);
        }
      }
    }
    return returns ? argTypes[0].fromWireType(answer) : undefined;
  };
}
