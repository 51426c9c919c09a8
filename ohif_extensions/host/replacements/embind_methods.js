// Embind's caller of JavaScript methods without code from text (the way Emscripten's DYNAMIC_EXECUTION=0 has it; MIT licence).
{
  const [returned, ...taken] = emval_lookupTypes(argCount, argTypes);
  const caller = (object, method, destructors, args) => {
    let at = args;
    const given = taken.map(type => {
      const value = type.readValueFromPointer(at);
      at += type.argPackAdvance;
      return value;
    });
    const answer = kind === 1 ? new method(...given) : method.call(object, ...given);
    return returned.isVoid ? undefined : emval_returnValue(returned, destructors, answer);
  };
  return emval_addMethodCaller(createNamedFunction(`methodCaller<(${taken.map(type => type.name).join(', ')}) => ${returned.name}>`, caller));
}
