// Files that the bundler turns into modules.
declare module '*.css' {
  const text: string;
  export default text;
}

declare module '*.glsl' {
  const text: string;
  export default text;
}

/** The address of a worker that was bundled on its own. */
declare module '*?worker' {
  const url: string;
  export default url;
}
