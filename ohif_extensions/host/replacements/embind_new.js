// Embind's maker of JavaScript objects without code from text (the way Emscripten's DYNAMIC_EXECUTION=0 has it; MIT licence).
function craftEmvalAllocator(argCount) {
  return (constructor, argTypes, args) => {
    const given = [];
    for (let index = 0; index < argCount; index++) {
      const type = requireRegisteredType(HEAPU32[argTypes >> 2], 'parameter ' + index);
      given.push(type.readValueFromPointer(args));
      args += type.argPackAdvance;
      argTypes += 4;
    }
    return Emval.toHandle(new constructor(...given));
  };
}
